"""No secret of the configuration is ever shown, and an error says what to do without quoting it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import dlt
import pytest
from commands import command
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from hypothesis import given
from hypothesis import strategies as st

from unify_source import sync
from unify_source.common.errors import ConfigurationError, UnifyError
from unify_source.common.errors.redaction import keep_out, redacted, redacted_logs
from unify_source.common.settings import checked_settings
from unify_source.load.configuration.lookup import configured
from unify_source.sandbox import Account, Sandbox

Serve = Callable[..., Sandbox]

PASSWORDS = ["p@ss-w0rd-7", "p#ss-w0rd-7", "p/ss-w0rd-7", "p%ss-w0rd-7", "p:ss@w0rd-7", "p w0rd-7"]
FORMS = [
    "postgresql://loader:{}@127.0.0.1:1/warehouse",
    "host=127.0.0.1 port=1 user=loader password='{}'",
]
PARTS = ("ss-w0rd-7", "w0rd-7")


@pytest.mark.parametrize("words", [["check"], ["sync", "--json", "--verbose"], ["status"]])
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_part_of_a_password_is_shown(password: str, words: list[str], serve: Serve) -> None:
    ran = command(
        *words,
        "--destination",
        "postgres",
        UNIFY_API_KEY="sandbox-key",
        SOURCES__UNIFY__BASE_URL=serve(Account(5)).url,
        DESTINATION__POSTGRES__CREDENTIALS=FORMS[0].format(password),
    )

    assert ran.returncode in (1, 2)
    assert not [part for part in PARTS if part in ran.stdout + ran.stderr], ran.stderr
    assert "%40" in ran.stdout + ran.stderr


def test_a_password_with_an_at_sign_is_not_mistaken_for_a_host(serve: Serve) -> None:
    ran = command(
        "sync",
        "--destination",
        "postgres",
        UNIFY_API_KEY="sandbox-key",
        SOURCES__UNIFY__BASE_URL=serve(Account(5)).url,
        DESTINATION__POSTGRES__CREDENTIALS="postgresql://u:a@b@127.0.0.1/d",
    )

    assert "b@127.0.0.1" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "credentials",
    [
        "s3kr-w0rd-7",
        "loader:s3kr-w0rd-7@127.0.0.1:1/warehouse",
        '{"username": "loader", "password": "s3kr-w0rd-7", ',
        "host=127.0.0.1 user=loader password=s3kr-w0rd-7",
    ],
)
def test_credentials_that_dlt_cannot_read_are_not_shown(credentials: str) -> None:
    where = {"DESTINATION__POSTGRES__CREDENTIALS": credentials}

    ran = command("status", "--destination", "postgres", "--verbose", **where)

    assert ran.returncode == 2
    assert "s3kr-w0rd-7" not in ran.stdout + ran.stderr
    assert "dlt cannot read the value of credentials" in ran.stderr
    assert "standard database connection string" in ran.stderr


@pytest.mark.parametrize(
    ("address", "missing"),
    [
        ("", "CREDENTIALS is"),
        ("loader@127.0.0.1/warehouse", "CREDENTIALS__PASSWORD is"),
        ("/warehouse", "CREDENTIALS__PASSWORD, .* and .*CREDENTIALS__HOST are"),
    ],
)
def test_what_an_address_lacks_is_named_as_the_variable_that_would_set_it(
    address: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address:
        monkeypatch.setenv("DESTINATION__POSTGRES__CREDENTIALS", f"postgresql://{address}")
    pipeline = dlt.pipeline("p", destination="postgres", dataset_name="d")

    with pytest.raises(ConfigurationError, match=f"DESTINATION__POSTGRES__{missing} not set"):
        sync(pipeline, api_key="sandbox-key")


def test_a_traceback_of_a_script_shows_no_password(serve: Serve) -> None:
    url = FORMS[0].format(PASSWORDS[0])
    pipeline = dlt.pipeline("p", destination=dlt.destinations.postgres(url), dataset_name="d")

    with pytest.raises(UnifyError) as caught:
        sync(pipeline, api_key="sandbox-key", base_url=serve(Account(5)).url)

    shown = "".join(traceback.format_exception(caught.value))
    assert not [part for part in PARTS if part in shown + caught.value.story]
    assert "Traceback" in caught.value.story


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=24),
    st.sampled_from(FORMS[:1]),
)
def test_a_password_is_redacted_however_a_library_splits_the_address(
    password: str, form: str
) -> None:
    address = form.format(password)
    keep_out(address)

    rest = address.split("@", 1)[1]
    for text in (address, repr(address), password, f'host name "{rest}"' if "@" in rest else ""):
        assert password not in redacted(f"could not connect: {text}!")
        assert f"{password[-4:]}@127" not in redacted(text)


def test_a_key_in_the_wrong_place_is_not_shown() -> None:
    key = "uk-7Qm3zzTop91x-never-shown"
    for name in ("base_url", "lookback", "start", "status", "sequence_id", "workers"):
        where = {f"SOURCES__UNIFY__{name.upper()}": key}
        for other in (key, "another-key"):
            ran = command("sync", "--verbose", UNIFY_API_KEY=other, **where)
            assert ran.returncode == 2
            assert key not in ran.stdout + ran.stderr
            assert name in ran.stderr
            if name != "lookback":
                break


KEYS = [
    "sk_live_9f8e7d6c5b",
    "sk_live_abcdefgh",
    "9f8e7d6c5b4a",
    "uk-7Qm3zzTop91x",
    "a1B2c3D4e5F6g7",
]
MISTAKES = [
    "ten minutes",
    "10 min",
    "1h30m",
    "20260131T120000Z",
    "31.01.2026 10:00",
    "api.example.com",
    "unify-prod",
    "unify-prod-eu1",
    "db-7f3b2c1d.example.com",
    "ec2-54-12-3-4.eu-west-1.example.com",
    "3c90c3cc-0d44-4b50-8888",
    "IN_PROGRES",
]


@pytest.mark.parametrize("name", ["lookback", "base_url", "start", "status", "person_id", "pii"])
def test_a_key_in_another_setting_is_hidden_and_a_mistake_is_shown(name: str) -> None:
    def refusal(value: str) -> str:
        with pytest.raises(ConfigurationError, match=f"^{name} is ") as caught:
            checked_settings({"api_key": "another-key-of-the-test", name: value})
        return str(caught.value)

    for key in KEYS:
        for value in (key, f" {key}\n", f"Bearer {key}"):
            assert key not in refusal(value)
    for mistake in MISTAKES:
        if name not in ("lookback", "start") or mistake not in ("1h30m", "20260131T120000Z"):
            assert repr(mistake) in refusal(mistake)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_as_the_name_of_a_setting_is_hidden(
    key: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal() -> str:
        Container()[PluggableRunContext].reload_providers()
        with pytest.raises(ConfigurationError, match="is not a setting, but is set in") as caught:
            configured()
        return str(caught.value)

    with monkeypatch.context() as environment:
        environment.setenv(f"SOURCES__UNIFY__{key}".upper(), "")
        assert key.lower() not in refusal().lower()
    (home / ".dlt").mkdir()
    (home / ".dlt" / "secrets.toml").write_text(f'[sources.unify]\n{key} = ""\n')
    assert key not in refusal()


@pytest.mark.parametrize("name", ["requests_per_5minutes", "max_response_2seconds", "pii_keys2"])
def test_a_mistyped_name_with_digits_is_shown(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} is not a setting") as caught:
        checked_settings({"api_key": "another-key-of-the-test", name: 1})

    assert caught.value.next_step.startswith("Did you mean ")


def test_log_records_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    keep_out("a-secret-of-the-test")

    with redacted_logs():
        for name in ("dlt", "unify_source.api.client", "urllib3"):
            logger = logging.getLogger(name)
            logger.error("sent %s", "a-secret-of-the-test")
            try:
                int("a-secret-of-the-test")
            except ValueError:
                logger.exception("failed")

    assert caplog.text.count("sent ***") >= 1
    assert "a-secret-of-the-test" not in caplog.text
