"""The audit's judgements, on real folders and on what the kernel tells of mounts."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from common.audit import Finding, Needs, Place, Port, examine, library_place, read_findings, state_place
from common.audit.commands import (
    CONTAINER_VARIABLE,
    command,
    init_command,
    on_machine,
    ours,
    owner_command,
    what_fills,
)
from common.audit.folders import split_finding, write_findings
from common.audit.mounts import Mount, mount_of, parse_mounts, read_mounts
from common.audit.process import skew_finding, user_findings
from common.audit.stack import ID_FILE, MARKER, LibraryLease, LibraryTaken, owner_finding
from common.settings import Settings
from tests.support.starts import listing

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:40 / /volume1/music rw,relatime shared:1 - nfs4 nas:/music rw,vers=4.2
41 27 0:41 / /volume1/music/local\040disk rw - btrfs /dev/sdb rw
42 27 0:42 / /smb rw - cifs //nas/x rw
43 27 0:43 / /win rw - 9p drvfs rw
44 27 0:44 / /cloud rw - fuse.rclone remote: rw
45 27 0:45 / /pool rw - fuse.mergerfs a:b rw
46 27 0:46 / /usb rw - fuseblk /dev/sdc1 rw
47 27 0:47 / /smb rw - xfs /dev/sdd rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind", "network", "pool"),
    [
        ("/var/lib/state", "ext4", False, False),
        ("/volume1/music/state", "nfs4", True, False),
        ("/volume1/music/local disk/state", "btrfs", False, False),
        ("/volume1/musicbox", "ext4", False, False),
        ("/win/c", "9p", True, False),
        ("/cloud", "fuse.rclone", True, False),
        ("/pool/x", "fuse.mergerfs", False, True),
        ("/usb/x", "fuseblk", False, False),
        ("/smb/x", "xfs", False, False),
    ],
)
def test_the_file_system_of_a_folder_is_read_from_the_kernels_table(
    path: str, kind: str, network: bool, pool: bool
) -> None:
    found = mount_of(Path(path), parse_mounts(MOUNTINFO))
    assert found is not None
    assert (found.kind, found.is_network, found.is_pool) == (kind, network, pool)


def test_this_machines_own_table_is_understood(tmp_path: Path) -> None:
    found = mount_of(tmp_path, read_mounts())
    assert found is not None
    assert os.stat(found.point).st_dev == tmp_path.stat().st_dev


def test_a_link_to_a_share_is_followed(tmp_path: Path) -> None:
    share = Mount(number=2, point=str(tmp_path / "share"), kind="nfs", options="rw")
    local = Mount(number=1, point="/", kind="ext4", options="rw")
    (tmp_path / "share").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "share")
    found = mount_of(tmp_path / "state" / "new", [local, share])
    assert found is share


def place(path: Path, setting: str = "STATE_DIR") -> Place:
    return Place(setting=setting, path=path)


def test_looking_changes_nothing_and_names_no_path(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    settings = Settings(root_dir=tmp_path / "data", nats_password="x")
    needs = Needs(
        writes=(library_place(settings), state_place(settings)),
        databases=((state_place(settings), settings.state / "ops.db"),),
        claims=library_place(settings),
    )
    was = listing(tmp_path)
    assert examine(settings, needs) == []
    assert listing(tmp_path) == was


def test_one_cause_is_one_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    both = [place(tmp_path / "file" / "state"), place(tmp_path / "file" / "library", "LIBRARY_DIR")]
    found, bad = write_findings(both, place(tmp_path, "ROOT_DIR"))
    assert [one.code for one in found] == ["no-folder"]
    assert "STATE_DIR and LIBRARY_DIR" in found[0].message
    assert str(tmp_path) not in found[0].message
    assert bad == set(both)


def test_a_command_is_for_the_machine_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    us = f"{os.geteuid()}:{os.getegid()}"
    assert command("rm", Path("/my music/x")) == "rm '/my music/x'"
    assert owner_command(Path("/data")) == f"sudo chown -R {us} /data"
    assert on_machine(Path("/my music")) == "'/my music'"
    monkeypatch.setenv(CONTAINER_VARIABLE, "1")
    inside = "docker compose run --rm -T --entrypoint"
    assert command("rm", Path("/data/library/x")) == f"{inside} rm tools /data/library/x"
    # `init` is root there, and knows which of the folders below ROOT_DIR are ours.
    assert owner_command(Path("/data/state")) == f"{inside} chown init -R {us} /data/state"
    assert owner_command(Path("/data"), all=True) == init_command() == "docker compose run --rm init"
    assert what_fills(Path("/data/state")).endswith("init -xh --max-depth=2 /data/state | sort -h | tail")
    assert ours("rebuild", program="exporter") == "docker compose run --rm exporter rebuild"


def test_a_folder_of_a_container_is_found_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONTAINER_VARIABLE, "1")
    mounts = [
        Mount(number=1, point="/", kind="overlay", options="ro"),
        Mount(number=2, point="/music", kind="btrfs", options="ro"),
    ]
    monkeypatch.setattr("common.audit.commands.read_mounts", lambda: mounts)
    asked = '{{range .Mounts}}{{if eq .Destination "/music"}}{{.Source}}{{end}}{{end}}'
    assert on_machine(Path("/music/lists")) == (
        f"\"$(docker inspect -f '{asked}' $(docker compose ps -aq collector | head -n 1))\""
    )


def test_a_full_disk_is_looked_at_where_there_is_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.audit.folders._FULL_BYTES", 2**63)
    (found,), _ = write_findings([place(tmp_path / "data" / "state")], place(tmp_path / "data", "ROOT_DIR"))
    assert found.code == "disk-full"
    assert found.mend == f"sudo du -xh --max-depth=2 {tmp_path} | sort -h | tail"


def test_two_mounts_of_one_disk_are_two_file_systems(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "library").mkdir()
    spool, library = place(tmp_path / "spool", "SPOOL_DIR"), place(tmp_path / "library", "LIBRARY_DIR")
    root = Mount(number=1, point="/", kind="ext4", options="rw")
    bound = Mount(number=2, point=str(tmp_path / "spool"), kind="ext4", options="rw")
    assert split_finding(spool, library, [root]) is None
    found = split_finding(spool, library, [root, bound])
    assert found is not None
    assert found.code == "two-file-systems"


def test_the_user_is_compared_with_what_the_owner_asked_for() -> None:
    here = {"PUID": str(os.geteuid()), "PGID": str(os.getegid())}
    assert user_findings(here, umask="022") == []
    assert user_findings({}, umask=None) == []
    other = user_findings({"PUID": str(os.geteuid() + 1), "PGID": "users"}, umask="777")
    assert [(one.code, one.severity) for one in other] == [
        ("other-user", "warning"),
        ("bad-user", "error"),
        ("bad-umask", "error"),
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(29, None), (-29, None), (31, "31 s ahead of"), (-7200, "7200 s behind")]
)
def test_a_clock_that_is_badly_off_is_said(seconds: int, words: str | None) -> None:
    found = skew_finding(timedelta(seconds=seconds))
    assert (found is None) == (words is None)
    assert found is None or (words in found.message and found.severity == "warning")  # type: ignore[operator]


def test_a_port_in_use_names_the_setting_to_change(tmp_path: Path) -> None:
    import socket

    settings = Settings(root_dir=tmp_path, nats_password="x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = examine(settings, Needs(ports=(Port(setting="WEB_PORT", host="127.0.0.1", number=port),)))
    assert [one.code for one in found] == ["port-in-use"]
    assert f"Port {port}" in found[0].message
    assert "WEB_PORT" in found[0].message


class TestLibrary:
    """Whose the library is."""

    def test_copies_of_one_stack_share_it(self, tmp_path: Path) -> None:
        library = place(tmp_path / "library", "LIBRARY_DIR")
        first = LibraryLease.claim(library, root=tmp_path / "data", given=None)
        second = LibraryLease.claim(library, root=tmp_path / "data", given=None)
        own = (tmp_path / "data" / ID_FILE).read_text().strip()
        assert json.loads((library.path / MARKER).read_text())["stack"] == own
        assert owner_finding(library, (own,)) is None
        first.release()
        second.release()

    def test_another_stack_is_told_whether_the_owner_runs(self, tmp_path: Path) -> None:
        library = place(tmp_path / "library", "LIBRARY_DIR")
        lease = LibraryLease.claim(library, root=tmp_path / "one", given=None)
        running = owner_finding(library, ("somebody-else",))
        assert running is not None
        assert "runs now" in running.message
        lease.release()
        ended = owner_finding(library, ())
        assert ended is not None
        assert "belongs to another" in ended.message
        assert ended.mend == f"rm {library.path / MARKER}"
        with pytest.raises(LibraryTaken):
            LibraryLease.claim(library, root=tmp_path / "two", given=None)

    def test_who_takes_over_on_purpose_ends_the_other(self, tmp_path: Path) -> None:
        library = place(tmp_path / "library", "LIBRARY_DIR")
        loser = LibraryLease.claim(library, root=tmp_path / "one", given=None)
        (library.path / MARKER).unlink()
        assert loser.holds()
        winner = LibraryLease.claim(library, root=tmp_path / "two", given="the-second-stack")
        assert winner.holds()
        assert not loser.holds()

    def test_an_id_that_is_set_and_one_that_was_made_are_both_ours(self, tmp_path: Path) -> None:
        library = place(tmp_path / "library", "LIBRARY_DIR")
        LibraryLease.claim(library, root=tmp_path / "data", given=None).release()
        LibraryLease.claim(library, root=tmp_path / "data", given="set-later-on").release()

    def test_a_marker_that_is_damaged_lets_nobody_in(self, tmp_path: Path) -> None:
        library = place(tmp_path, "LIBRARY_DIR")
        for damage in (b"", b"{", b"[]", b'{"stack": 7}', b"\xff" * 9000):
            (tmp_path / MARKER).write_bytes(damage)
            assert owner_finding(library, ("ours-alone",)) is not None

    def test_the_lock_is_held_while_the_process_lives(self, tmp_path: Path) -> None:
        lease = LibraryLease.claim(place(tmp_path), root=tmp_path / "data", given=None)
        with (tmp_path / MARKER).open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lease.release()


def test_findings_from_the_bus_are_not_believed_blindly() -> None:
    good = Finding(code="low-space", severity="warning", message="little room", mend="df -h")
    told = [good.model_dump(), {"code": "<b>", "severity": "error", "message": "x"}, 7, {"message": "y" * 10_000}]
    assert read_findings(told) == (good,)
    assert read_findings({"not": "a list"}) == ()
    assert len(read_findings([good.model_dump()] * 1000)) == 50
