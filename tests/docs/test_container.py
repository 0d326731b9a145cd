"""The container: its steps build, it runs without rights, and what starts it fits the command.

No daemon of Docker is needed: `make test-container` takes the steps one by one in a chroot.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chroot
import postgres
import pytest
import yaml
from conftest import KEY
from pages import ROOT

import unify_source
from unify_source.sandbox import Account, Sandbox

CONTAINER = ROOT / "pipelines" / "container"


def read(name: str) -> Any:
    return yaml.safe_load((CONTAINER / name).read_text())


def test_the_cron_job_forbids_concurrent_runs_and_retries_no_hopeless_one() -> None:
    job = read("cronjob.yaml")["spec"]
    pod = job["jobTemplate"]["spec"]
    [container] = pod["template"]["spec"]["containers"]
    [rule] = pod["podFailurePolicy"]["rules"]

    assert job["concurrencyPolicy"] == "Forbid"
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [2, 3]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    # As a namespace of the level "restricted" demands.
    assert pod["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["template"]["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["image"] == f"unify-source:{unify_source.__version__}"


def test_the_volumes_and_users_of_all_files_are_those_of_the_image() -> None:
    steps = dict(chroot.instructions(CONTAINER / "Dockerfile"))
    pod = read("cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    user = pod["securityContext"]["runAsUser"]

    assert steps["USER"] == f"{user}:{user}"
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == steps["VOLUME"]
    for service in ("api", "sync"):
        assert read("compose.yaml")["services"][service]["volumes"] == [steps["VOLUME"]]


def test_the_compose_file_is_valid_once_it_is_edited_for_another_account() -> None:
    text = (CONTAINER / "compose.yaml").read_text()
    taken_out = (
        '  api:\n    <<: *unify\n    command: ["sandbox"]\n',
        '    network_mode: "service:api"\n',
        "      SOURCES__UNIFY__BASE_URL: http://127.0.0.1:8100\n",
        "      api: {condition: service_started}\n",
    )
    for part in taken_out:
        assert part in text
        text = text.replace(part, "")

    sync = yaml.safe_load(text)["services"]["sync"]
    assert sync["read_only"]
    assert list(sync["depends_on"]) == ["database"]
    assert "api" not in text.partition("services:")[2]


Build = Callable[..., chroot.Image]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("image")
    debian = chroot.debian(folder)

    def built(name: str, **arguments: str) -> chroot.Image:
        return chroot.built(CONTAINER / "Dockerfile", ROOT, debian, folder / name, arguments)

    return built


@pytest.fixture(scope="module")
def image(build: Build) -> chroot.Image:
    return build("image")


@pytest.fixture
def data(image: chroot.Image, tmp_path: Path) -> Path:
    return chroot.volume(tmp_path / "data", image)


@pytest.mark.container
@pytest.mark.parametrize("destination", ["duckdb", "postgres"])
def test_the_image_loads_with_a_read_only_root(
    image: chroot.Image, data: Path, postgres_server: str, destination: str
) -> None:
    with Sandbox(Account(200), key=KEY) as api, postgres.database(postgres_server) as dsn:
        known = {
            "UNIFY_API_KEY": KEY,
            "SOURCES__UNIFY__BASE_URL": api.url,
            "DESTINATION__POSTGRES__CREDENTIALS": dsn,
        }
        words = ("--destination", destination)

        first = chroot.ended(image.start(data, "sync", *words, "--json", **known))
        again = chroot.ended(image.start(data, "sync", *words, "--json", **known))
        status = chroot.ended(image.start(data, "status", *words, **known))

    assert [first[0], again[0], status[0]] == [0, 0, 0], (first, again, status)
    assert json.loads(first[1])["enrollments"] == 200
    assert not list(data.glob("unify-source-*"))


@pytest.mark.container
def test_the_services_of_the_compose_file_load_the_sandbox(
    build: Build, tmp_path: Path, postgres_server: str
) -> None:
    services = read("compose.yaml")["services"]
    given = services["sync"]["environment"]
    image = build("composed", **services["api"]["build"]["args"])
    data = [chroot.volume(tmp_path / name, image) for name in ("api", "sync")]
    # Both are on this machine's loopback, as on that of one container.
    api = image.start(data[0], *services["api"]["command"])
    try:
        with postgres.database(postgres_server) as dsn:
            known = {**given, "DESTINATION__POSTGRES__CREDENTIALS": dsn}
            code, out, err = chroot.ended(
                image.start(data[1], *services["sync"]["command"], "--json", **known)
            )
    finally:
        if api.poll() is None:
            # Its own process, which would outlive the one that is its parent here.
            os.kill(chroot.first_process(api), signal.SIGTERM)
        _, _, errors = chroot.ended(api)

    assert code == 0, err + errors
    assert json.loads(out)["enrollments"] > 0
    assert services["sync"]["build"] == services["api"]["build"]


@pytest.mark.container
def test_a_container_is_healthy_while_it_loads_and_afterwards_and_not_over_a_broken_file(
    image: chroot.Image, data: Path
) -> None:
    def health() -> int:
        return chroot.ended(image.run(data, image.commands["HEALTHCHECK"]))[0]

    with Sandbox(Account(2_000), key=KEY, latency=0.5) as api:
        loading = image.start(data, UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=api.url)
        while len(api.requests) < 3:
            time.sleep(0.05)
        amid = health()
        done = chroot.ended(loading)

    assert [amid, done[0], health()] == [0, 0, 0], (amid, done)
    (data / "unify_gtm.duckdb").write_bytes(b"no database")
    assert health() != 0


@pytest.mark.container
def test_the_health_of_a_container_is_that_of_the_destination_in_its_environment(
    image: chroot.Image, data: Path, postgres_server: str
) -> None:
    place = {"UNIFY_DESTINATION": "postgres", "UNIFY_DATASET": "gtm"}

    def health() -> int:
        return chroot.ended(image.run(data, image.commands["HEALTHCHECK"], **place))[0]

    with Sandbox(Account(200), key=KEY) as api, postgres.database(postgres_server) as dsn:
        place["DESTINATION__POSTGRES__CREDENTIALS"] = dsn
        known = {"UNIFY_API_KEY": KEY, "SOURCES__UNIFY__BASE_URL": api.url, **place}
        done = chroot.ended(image.start(data, **known))
        [[rows]] = postgres.ask(dsn, "SELECT count(*) FROM gtm.enrollments")
        assert (done[0], rows, health()) == (0, 200, 0), done
    # Its database is gone.
    assert health() != 0


@pytest.mark.container
def test_the_image_stops_within_seconds_of_sigterm_as_process_1(
    image: chroot.Image, data: Path
) -> None:
    with Sandbox(Account(2_000), key=KEY, latency=0.5) as api:
        process = image.start(data, UNIFY_API_KEY=KEY, SOURCES__UNIFY__BASE_URL=api.url)
        while len(api.requests) < 3:
            time.sleep(0.05)
        os.kill(chroot.first_process(process), signal.SIGTERM)
        code, _, err = chroot.ended(process)

    assert code == 1, err
    assert "run it again" in err
