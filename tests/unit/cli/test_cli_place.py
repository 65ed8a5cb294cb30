from pathlib import Path

import pytest

from cli.run.place import Place
from cli.run.plan import Music, Ports
from cli.settings import CliSettings

PORTS = Ports(nats=1, console=2, origin=3, exporter=4, demo=5, health={})


def place(root: Path, settings: CliSettings) -> Place:
    music = Music(demo=False, folder=None, feeds=(), import_mode=None)
    return Place(root=root, settings=settings, music=music, ports=PORTS, secrets_made=frozenset())


def test_links_lead_to_the_port_that_was_found_free(tmp_path: Path) -> None:
    assert place(tmp_path, CliSettings()).environment("console")["ORIGIN_PUBLIC_URL"] == "http://127.0.0.1:3"


@pytest.mark.parametrize(
    ("name", "value"), [("ORIGIN_PUBLIC_URL", "https://music.example.org"), ("LEASE_SECONDS", "40")]
)
def test_what_a_person_set_in_the_file_is_kept(tmp_path: Path, name: str, value: str) -> None:
    # The environment of the processes wins over the file, so that what stands there must not be in it.
    file = tmp_path / "music-cloud.env"
    file.write_text(f"{name}={value}\n")
    settings = CliSettings(_env_file=file)
    assert place(tmp_path, settings).environment("console").get(name) in (None, value)


def test_an_interrupted_run_is_taken_up_again_soon(tmp_path: Path) -> None:
    assert float(place(tmp_path, CliSettings()).environment("downloader")["LEASE_SECONDS"]) < 30
