"""What is generated is current, and nothing ties the repository to one place on the network."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_example_of_the_settings_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate-env-example"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr


def test_the_example_shows_no_secret_and_sets_nothing() -> None:
    lines = (ROOT / "music-cloud.env.example").read_text(encoding="utf-8").splitlines()
    assert all(not line or line.startswith("#") for line in lines)
    secret = re.compile(r"^#\w*(PASSWORD|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY)=(.+)$")
    assert [line for line in lines if secret.match(line)] == []


def test_the_lock_names_no_package_index_and_pins_every_line_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    pins = re.findall(r"^([a-z0-9][\w.-]*)(?:\[.+\])?==", text, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9][\w.-]*(?:\[.+\])?==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins) > 50
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_procfile_names_programs_that_exist() -> None:
    from honcho.environ import parse_procfile

    processes = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
    for command in processes.values():
        assert (Path(sys.executable).parent / command.split()[0]).is_file(), command
