"""The sandbox answers and refuses as the API's own OpenAPI document says."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
import schemathesis
from asking import LIST, SEQUENCES, Row, account, ask, listed
from conftest import IS_SOAK
from hypothesis import given, settings
from schemathesis import GenerationMode

from unify_source.sandbox import Fault, Sandbox

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
DOCUMENT = Path(
    os.environ.get("UNIFY_OPENAPI")
    or Path(__file__).parents[3] / "shared/api/unify-sequences-openapi.json"
)


def is_instant(value: object) -> bool:
    return isinstance(value, str) and bool(datetime.fromisoformat(value.replace("Z", "+00:00")))


FORMATS = jsonschema.FormatChecker()
FORMATS.checks("date-time", raises=ValueError)(is_instant)


@cache
def document() -> Row:
    if not DOCUMENT.exists():
        pytest.skip("the API's OpenAPI document is not here; UNIFY_OPENAPI can say where it is")
    found: Row = json.loads(DOCUMENT.read_text())
    return found


def strict(schema: Row) -> Row:
    """Return a schema as JSON Schema that knows null and refuses what is not documented."""
    if "$ref" in schema:
        found = document()
        for step in schema["$ref"].split("/")[1:]:
            found = found[step]
        return strict(found)
    parts = [strict(part) for part in schema.get("allOf", [])]
    own = {key: value for key, value in schema.items() if key not in ("allOf", "nullable")}
    properties = {name: strict(value) for name, value in own.get("properties", {}).items()}
    merged: Row = {key: value for part in (*parts, own) for key, value in part.items()}
    for part in parts:
        properties |= part.get("properties", {})
    if properties:
        required = [name for part in (*parts, own) for name in part.get("required", [])]
        merged |= {"properties": properties, "required": required}
        is_open = any(part.get("additionalProperties") == {} for part in parts)
        merged["additionalProperties"] = is_open
    if "items" in merged:
        merged["items"] = strict(merged["items"])
    return {"anyOf": [merged, {"type": "null"}]} if schema.get("nullable") else merged


@cache
def promised(path: str, status: int) -> Any:
    responses = document()["paths"][path]["get"]["responses"]
    schema = strict(responses[str(status)]["content"]["application/json"]["schema"])
    return jsonschema.Draft202012Validator(schema, format_checker=FORMATS)


def check(answer: requests.Response, path: str = LIST) -> None:
    promised(path, answer.status_code).validate(answer.json())


@pytest.fixture(scope="module")
def still() -> Iterator[Sandbox]:
    with Sandbox(account(3000, one_instant=250)) as sandbox:
        yield sandbox


def test_every_row_is_as_documented_before_and_after_changes() -> None:
    with Sandbox(account(2000)) as sandbox:
        for seed in (1, 2):
            validator = promised(LIST, 200)
            rows = listed(sandbox)
            validator.validate({"enrollments": rows, "next_cursor": None})
            assert len(rows) >= 2000
            sandbox.account.change(1000, seed=seed)


def test_every_sequence_is_as_documented_before_and_after_changes() -> None:
    with Sandbox(account(30_000)) as sandbox:
        for seed in range(3):
            rows = listed(sandbox, SEQUENCES)
            promised(SEQUENCES, 200).validate({"sequences": rows, "next_cursor": None})
            assert len(rows) == 60 + seed
            sandbox.account.change(100, seed=seed)
            sandbox.account.edit_any_sequence(seed=seed)
            sandbox.account.upgrade_sequence(rows[0]["id"])


def test_the_check_itself_refuses_what_is_not_documented(still: Sandbox) -> None:
    row = listed(still, status="FINISHED")[0]
    validator = promised(LIST, 200)
    for wrong in ({"status": "PAUSED"}, {"new": 1}, {"person": None}, {"updated_at": "now"}):
        assert not validator.is_valid({"enrollments": [row | wrong], "next_cursor": None})
    assert validator.is_valid({"enrollments": [row], "next_cursor": "x"})


def test_every_refusal_has_its_documented_body(still: Sandbox) -> None:
    one = LIST + "/{id}"
    check(ask(still))
    check(ask(still, limit=0, status="x", cursor="y"))
    check(requests.get(still.url + LIST, timeout=10))
    check(ask(still, f"{LIST}/{still.account.ids()[0]}"), one)
    check(ask(still, f"{LIST}/{UNKNOWN_ID}"), one)
    check(ask(still, f"{LIST}/7"), one)


def test_every_refusal_of_a_sequence_has_its_documented_body(still: Sandbox) -> None:
    one = SEQUENCES + "/{id}"
    check(ask(still, SEQUENCES), SEQUENCES)
    check(ask(still, SEQUENCES, limit=0, cursor="y"), SEQUENCES)
    check(requests.get(still.url + SEQUENCES, timeout=10), SEQUENCES)
    known = still.account.sequences()[0]["id"]
    answers = [ask(still, f"{SEQUENCES}/{name}") for name in (known, UNKNOWN_ID, "7")]
    for answer in answers:
        check(answer, one)
    assert [answer.status_code for answer in answers] == [200, 404, 400]
    check(requests.get(f"{still.url}{LIST}/7", timeout=10), one)


@pytest.mark.parametrize("kind", ["400", "401", "429", "500", "bad_cursor"])
def test_every_injected_error_has_its_documented_body(kind: str) -> None:
    with Sandbox(account(10), faults=[Fault(kind)]) as sandbox:
        answer = ask(sandbox, cursor="x")
        assert answer.status_code == {"bad_cursor": 400}.get(kind) or int(kind)
        check(answer)


@pytest.mark.rounds
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", [LIST, LIST + "/{id}", SEQUENCES, SEQUENCES + "/{id}"])
def test_schemathesis_finds_no_answer_that_the_document_forbids(
    still: Sandbox, path: str, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(document())
    schema.config.update(base_url=still.url, headers={"x-api-key": still.key})
    statuses: Counter[int] = Counter()

    @settings(max_examples=500 if IS_SOAK else 40, deadline=None, database=None)
    @given(case=schema[path]["GET"].as_strategy(generation_mode=mode))
    def probe(case: Any) -> None:
        # The schema calls every string a cursor; its description, only those a page has returned.
        if mode is GenerationMode.POSITIVE:
            (case.query or {}).pop("cursor", None)
        answer = case.call_and_validate()
        statuses[answer.status_code] += 1

    probe()
    assert statuses[404 if path.endswith("{id}") else 200] > 0 or mode is GenerationMode.NEGATIVE
    assert sum(statuses.values()) >= 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("limit", value) for value in ("0", "101", "-1", "1.0", "", "ten", "٣")],
        *[("updated_after", value) for value in ("2026-01-01", "2026-01-01T00:00:00", "1", "")],
        ("updated_before", "2026-02-30T00:00:00Z"),
        ("updated_before", "2026-01-01 00:00:00Z"),
        ("sequence_id", "not-a-uuid"),
        ("status", "finished"),
        ("status", "DRAFT,FINISHED"),
        ("limit", ["1", "1"]),
    ],
)
def test_requests_that_the_api_would_refuse_are_refused_by_name(
    still: Sandbox, name: str, value: Any
) -> None:
    answer = ask(still, **{name: value})
    assert answer.status_code == 400
    assert [problem["path"] for problem in answer.json()["errors"]] == [[name]]


def test_an_unknown_parameter_is_ignored(still: Sandbox) -> None:
    assert ask(still, colour="blue").status_code == 200


def test_the_key_comes_before_everything_else(still: Sandbox) -> None:
    for headers in ({}, {"x-api-key": "another"}):
        answer = requests.get(still.url + "/nowhere", {"limit": 0}, headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (401, "unauthorized")


def test_one_enrollment_is_found_by_its_id(still: Sandbox) -> None:
    name = still.account.ids()[7]
    assert ask(still, f"{LIST}/{name}").json() == still.account.get(name)
    unknown = "00000000-0000-4000-8000-000000000000"
    codes = [ask(still, f"{LIST}/{one}").status_code for one in (unknown, "7")]
    assert codes == [404, 400]


def test_other_addresses_and_methods_are_answered_in_json(still: Sandbox) -> None:
    headers = {"x-api-key": still.key}
    wrong_method = requests.delete(still.url + LIST, headers=headers, timeout=10)
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "GET")
    assert wrong_method.json()["status"] == "method_not_allowed"
    assert ask(still, "/sequences/v1/steps").json()["status"] == "not_found"
