"""The commands as their owner runs them: exit statuses, schedules, and no passphrase anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.backup.layout import archive_name
from common.bus import Bus, FactWriter
from common.contracts.envelope import now
from tests.support.catalog_facts import song
from tests.support.nats import NatsServer

PASSPHRASE = "correct horse battery"


@pytest.fixture
def environment(nats_server: NatsServer, tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    return {**kept, **nats_server.settings, "ROOT_DIR": str(tmp_path / "data"), "HEARTBEAT_SECONDS": "0.2"}


async def run(environment: dict[str, str], cwd: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli", *words],
        env={**environment, **more},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


async def test_backup_verify_list_and_restore(bus: Bus, environment: dict[str, str], tmp_path: Path) -> None:
    await FactWriter(bus).publish(song("1"), cause="a")
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    with_file = ("--passphrase-file", str(secret))

    made = await run(environment, tmp_path, "backup", "--to", "to", *with_file)
    assert made.returncode == 0, made.stderr
    (archive,) = (tmp_path / "to").glob("*.age.tar")
    assert archive.name in made.stdout and "checked" in made.stdout

    refused = await run(environment, tmp_path, "backup", "--verify", str(archive))
    assert (refused.returncode, refused.stdout) == (2, "") and "passphrase" in refused.stderr
    whole = await run(environment, tmp_path, "--json", "backup", "--verify", str(archive), BACKUP_PASSPHRASE=PASSPHRASE)
    assert whole.returncode == 0 and json.loads(whole.stdout)["messages"]["CATALOG"] == 1
    listed = await run(environment, tmp_path, "--json", "backup", "list", "to")
    assert [(one["name"], one["encrypted"]) for one in json.loads(listed.stdout)] == [(archive.name, True)]

    kept = await run(environment, tmp_path, "restore", str(archive), *with_file)
    assert kept.returncode == 2 and "--replace" in kept.stderr and "Traceback" not in kept.stderr
    done = await run(environment, tmp_path, "restore", "--replace", str(archive), *with_file)
    assert done.returncode == 0 and "music-cloud init" in done.stdout
    for one in (made, refused, whole, kept, done):
        assert PASSPHRASE not in one.stdout + one.stderr


async def test_a_bus_that_is_away_is_one_sentence(
    nats_server: NatsServer, environment: dict[str, str], tmp_path: Path
) -> None:
    nats_server.kill()
    done = await run(environment, tmp_path, "backup", "--to", "to")
    assert done.returncode == 1 and "No NATS server answers" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "to").exists()


async def test_a_weak_passphrase_is_refused(bus: Bus, environment: dict[str, str], tmp_path: Path) -> None:
    done = await run(environment, tmp_path, "backup", "--to", "to", BACKUP_PASSPHRASE="short")
    assert done.returncode == 2 and "openssl" in done.stderr


async def test_scheduled_and_pruned(bus: Bus, environment: dict[str, str], tmp_path: Path) -> None:
    await FactWriter(bus).publish(song("1"), cause="a")
    to = tmp_path / "to"
    to.mkdir()
    old = [to / archive_name(now().replace(year=2020 + n), encrypted=False) for n in range(3)]
    for file in old:
        file.write_bytes(b"\x28\xb5\x2f\xfd of long ago")
    command = [sys.executable, "-m", "cli", "backup", "--to", str(to), "--every", "24h", "--keep", "2"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = await asyncio.to_thread(process.stdout.readline)
    assert "checked; removed 2 older" in said
    assert [file.exists() for file in old] == [False, False, True]

    # It waits now, and ends at once when it is told to.
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 10) == 0
    assert time.monotonic() - begun < 5
    process.stdout.close()

    # Started again, it does not make another one before its time.
    again = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    with pytest.raises(subprocess.TimeoutExpired):
        await asyncio.to_thread(again.wait, 4)
    again.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(again.wait, 10) == 0
    assert again.stdout.read() == ""
    again.stdout.close()
    assert len(list(to.glob("music-cloud-*"))) == 2
