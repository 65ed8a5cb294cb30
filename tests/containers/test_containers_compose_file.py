"""compose.yaml as compose itself understands it; needs its program, and no engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker import ROOT, SERVICES, NoEngine, find_client

OURS = (*SERVICES, "init", "nats", "tools")


def configuration(*files: str) -> dict[str, Any]:
    """All services, of all profiles, with the defaults."""
    try:
        environment = find_client()
    except NoEngine as reason:
        pytest.skip(str(reason))
    environment["COMPOSE_DISABLE_ENV_FILE"] = "1"
    given = [argument for file in files for argument in ("--file", file)]
    command = ["docker", "compose", *given, "--profile", "*", "config", "--format", "json"]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout))


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return configuration("compose.yaml")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return configuration("compose.yaml", "compose.cluster.yaml")


def test_every_container_is_closed(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["user"] == ("0:0" if name == "init" else "1000:1000"), name
        assert name in {"init", "tools"} or service["restart"] == "unless-stopped", name


def test_only_console_origin_and_exporter_can_be_reached(stack: dict[str, Any]) -> None:
    published = {name for name, service in stack["services"].items() if service.get("ports")}
    assert published == {"console", "origin", "exporter", "objects", "proxy"}
    assert stack["networks"]["bus"]["internal"]
    for name in ("nats", "postgres"):
        assert list(stack["services"][name]["networks"]) == ["bus"]
    for name in ("exporter", "objects"):
        assert {port["host_ip"] for port in stack["services"][name]["ports"]} == {"127.0.0.1"}


def test_each_service_sees_only_its_own_secrets(stack: dict[str, Any]) -> None:
    for name in SERVICES:
        targets = [volume["target"] for volume in stack["services"][name]["volumes"]]
        assert "/data" not in targets
        assert [one for one in targets if "secrets" in one] == [f"/data/secrets/{name}"]


def test_the_music_folder_is_never_written(stack: dict[str, Any]) -> None:
    mounts = [volume for service in stack["services"].values() for volume in service.get("volumes", ())]
    music = [volume for volume in mounts if volume["target"] == "/music"]
    assert music
    assert all(volume["read_only"] for volume in music)


def test_the_bus_comes_first(stack: dict[str, Any]) -> None:
    for name in SERVICES:
        waits = {other: how["condition"] for other, how in stack["services"][name]["depends_on"].items()}
        assert waits == {"init": "service_completed_successfully", "nats": "service_healthy"}


def test_images_are_pinned(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
    assert {name for name in stack["services"] if "build" in stack["services"][name]} == {*OURS} - {"nats"}


def test_folders_that_are_missing_are_made(cluster: dict[str, Any]) -> None:
    for name, service in cluster["services"].items():
        for volume in service.get("volumes", ()):
            here = Path(volume["source"]).relative_to(ROOT)
            # What a checkout holds is there already, and a typing error in it must not become a folder.
            assert here.parts[0] in {"config", "deploy"} or volume["bind"]["create_host_path"], (name, here)


def test_each_server_of_the_cluster_has_a_store_of_its_own(cluster: dict[str, Any]) -> None:
    servers = ("nats", "nats-2", "nats-3")
    stores = [volume["source"] for name in servers for volume in cluster["services"][name]["volumes"]]
    assert len(stores) == len(set(stores)) == 3
    for name in SERVICES:
        environment = cluster["services"][name]["environment"]
        assert environment["NATS_REPLICAS"] == "3"
        assert all(f"nats://{server}:4222" in environment["NATS_URL"].split(",") for server in servers)


def test_the_bus_is_opened_to_this_machine_unless_more_is_asked_for() -> None:
    nats = configuration("compose.yaml", "compose.bus.yaml")["services"]["nats"]
    assert sorted(nats["networks"]) == ["bus", "web"]
    assert [(port["host_ip"], port["published"]) for port in nats["ports"]] == [("127.0.0.1", "4222")]
