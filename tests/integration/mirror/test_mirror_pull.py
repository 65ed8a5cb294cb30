"""The mirror against a real HTTP server that serves, and misserves, packs: what it does, and what it shows then."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.client import Limits, Mirror, Pulled, current_database
from mirror.errors import MirrorError, SignatureError
from mirror.format.keys import SigningKey
from mirror.problems import LocalProblem, NotOffered, Refused, SettingsProblem, Unavailable
from mirror.remote import Patience
from tests.support.mirrors import assert_shows, leftovers, shown
from tests.support.publisher import Asked, Content, Publisher, PublisherServer, Reply, catalog, pack_of, serving

# No test waits for these seconds: they only end one that hangs, on a machine however busy.
QUICK = Limits(wait=0.0, patience=Patience(connect=20, read=20, answer=20))
PATIENT = Limits(wait=20.0, patience=QUICK.patience)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(publisher: Publisher) -> Iterator[PublisherServer]:
    with serving(publisher) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def pull(server: PublisherServer, folder: Path) -> Callable[..., Pulled]:
    """Pull once, as one run of the command does."""

    def once(*, full: bool = False, allow_rollback: bool = False, limits: Limits = QUICK, **options: Any) -> Pulled:
        with Mirror(folder, server.url, limits=limits, **options) as mirror:
            return mirror.pull(full=full, allow_rollback=allow_rollback)

    return once


Pull = Callable[..., Pulled]


def test_first_everything_then_changes_then_nothing(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    first = publisher.publish(catalog(300))
    pulled = pull()
    assert (pulled.changed, pulled.delta, set(pulled.first_keys)) == (True, False, {publisher.key.key_id})
    assert_shows(folder, first)

    second = publisher.publish(catalog(301))
    pulled = pull()
    assert (pulled.changed, pulled.delta, pulled.first_keys) == (True, True, {})
    assert_shows(folder, second)

    assert not pull().changed
    assert len(server.requests("fetch")) == 2
    assert leftovers(folder) == []


def test_other_programs_find_the_two_files_below_current(publisher: Publisher, pull: Pull, folder: Path) -> None:
    published = publisher.publish(catalog(3))
    pull()

    manifest = json.loads((folder / "current" / "manifest.json").read_bytes())
    assert manifest == published.manifest
    with contextlib.closing(sqlite3.connect(f"file:{folder}/current/catalog_read.db?mode=ro", uri=True)) as database:
        assert database.execute("SELECT name FROM catalog_tracks WHERE song_id = 2").fetchone() == ("歌 2",)
    assert current_database(folder).samefile(folder / "current" / "catalog_read.db")


def test_there_is_no_database_before_the_first_pull(folder: Path) -> None:
    with pytest.raises(LocalProblem, match="music-cloud-mirror pull"):
        current_database(folder)


def test_a_reader_of_the_old_snapshot_reads_on(publisher: Publisher, pull: Pull, folder: Path) -> None:
    publisher.publish(catalog(2000))
    pull(limits=Limits(keep=0))
    with contextlib.closing(sqlite3.connect(f"file:{current_database(folder)}?mode=ro", uri=True)) as reader:
        rows = reader.execute("SELECT count(*) OVER (), song_id FROM catalog_tracks")
        assert rows.fetchone() == (2000, 1)

        for songs in (10, 20):
            publisher.publish(catalog(songs))
            pull(limits=Limits(keep=0))

        assert len(rows.fetchall()) == 1999
        assert reader.execute("SELECT count(*) FROM catalog_tracks").fetchone() == (2000,)


def test_a_mirror_that_is_many_versions_behind(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    publisher.publish(catalog(50))
    pull()
    for songs in range(60, 100, 5):
        last = publisher.publish(catalog(songs, first=songs % 7, note=str(songs)))

    pulled = pull()

    assert pulled.delta
    assert len(server.requests("pack")) == 2
    assert_shows(folder, last)


def test_a_server_that_has_forgotten_the_mirror_sends_everything(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    server.forgotten.add(publisher.publish(catalog(50)).id)
    pull()
    last = publisher.publish(catalog(60))

    assert not pull().delta
    assert_shows(folder, last)


def test_a_catalog_that_was_rebuilt_begins_to_count_anew(publisher: Publisher, pull: Pull, folder: Path) -> None:
    for songs in (5, 6, 7):
        publisher.publish(catalog(songs))
    pull()
    rebuilt = publisher.publish(catalog(8), lineage="ef" * 16, revision=1)

    pull()

    assert_shows(folder, rebuilt)


def test_the_same_content_again_brings_its_new_manifest_without_a_pack(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    publisher.publish(catalog(5))
    pull()
    server.newest = publisher.publish(catalog(6))
    new = SigningKey.generate()
    publisher.listed = [publisher.key, new]
    server.newest = again = publisher.publish(catalog(5))

    assert pull().changed
    assert not pull().changed

    assert json.loads((folder / "current" / "manifest.json").read_bytes()) == again.manifest
    assert len(server.requests("fetch")) == 1
    publisher.key, publisher.listed, server.newest = new, [new], None
    last = publisher.publish(catalog(7))
    pull()
    assert_shows(folder, last)


def test_a_server_that_moved_on_meanwhile(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    gone = publisher.made(catalog(4))
    last = publisher.publish(catalog(5))
    server.newest = gone

    def forget(asked: Asked) -> Reply:
        server.newest = None
        return Reply(status=404)

    server.replies["fetch"] = [forget]
    pull()

    assert_shows(folder, last)


# What a broken connection, a slow or a wrong server do.


def test_a_broken_download_goes_on_where_it_broke(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(3000))
    server.replies["pack"] = [lambda asked: _cut(server, asked, 20_000)]
    with pytest.raises(Unavailable):
        pull()
    assert len(leftovers(folder)) == 2

    pulled = pull()

    assert_shows(folder, published)
    asked = server.requests("pack")
    assert asked[-1].headers["range"] == "bytes=20000-"
    assert asked[-1].headers["if-range"]
    # The place was another one: its signature had changed.
    assert asked[0].path != asked[-1].path
    assert pulled.received > 20_000
    assert leftovers(folder) == []


def test_one_pull_takes_several_breaks(publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path) -> None:
    published = publisher.publish(catalog(3000))
    server.replies["pack"] = [lambda asked: _cut(server, asked, 10_000)] * 3

    pull(limits=PATIENT)

    assert [one.headers.get("range") for one in server.requests("pack")] == [
        None,
        "bytes=10000-",
        "bytes=20000-",
        "bytes=30000-",
    ]
    assert_shows(folder, published)


def _cut(server: PublisherServer, asked: Asked, bytes: int) -> Reply:
    """The true answer, and the end of the connection within it."""
    true = server.pack(asked)
    return Reply(status=true.status, headers=true.headers, body=true.body, cut=bytes)


def test_a_server_that_cannot_resume_sends_all_again(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(3000))

    def whole(asked: Asked) -> Reply:
        return Reply(body=server.pack(Asked(method="GET", path=asked.path, headers={}, body=b"")).body)

    server.replies["pack"] = [lambda asked: _cut(server, asked, 20_000), whole]
    pull(limits=PATIENT)

    assert_shows(folder, published)


@pytest.mark.parametrize("broken", [b"something else " * 1000, b"x" * 500_000])
def test_what_was_left_of_another_pack_does_not_spoil_this_one(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, broken: bytes
) -> None:
    published = publisher.publish(catalog(3000))
    server.replies["pack"] = [lambda asked: _cut(server, asked, 20_000)]
    with pytest.raises(Unavailable):
        pull()
    for entry in (folder / ".incoming").glob("*"):
        if not entry.name.endswith(".etag"):
            entry.write_bytes(broken)

    pull()

    assert_shows(folder, published)


def test_a_place_that_expired_is_asked_for_again(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(10))
    server.replies["pack"] = [Reply(status=403), Reply(status=410)]

    pull()

    assert_shows(folder, published)
    assert len(server.requests("fetch")) == 3


def test_a_pack_that_is_not_ready_is_waited_for_as_long_as_the_server_says(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(10))
    server.replies["fetch"] = [Reply(status=503, headers={"Retry-After": "1"})]

    began = time.monotonic()
    pull(limits=PATIENT)

    assert time.monotonic() - began >= 1
    assert_shows(folder, published)


def test_a_wait_that_is_too_long_for_one_pull_is_told(
    publisher: Publisher, server: PublisherServer, pull: Pull
) -> None:
    publisher.publish(catalog(10))
    server.replies["fetch"] = [Reply(status=503, headers={"Retry-After": "3600"})]

    with pytest.raises(Unavailable) as refused:
        pull(limits=PATIENT)

    assert refused.value.retry_after == 3600


GARBAGE = [
    Reply(body=b"<html>Welcome</html>", headers={"Content-Type": "text/html"}),
    Reply(body=b"", headers={"Content-Type": "application/json"}),
    Reply(body=b"[" * 100_000, headers={"Content-Type": "application/json"}),
    Reply(body=b"[1, 2]", headers={"Content-Type": "application/json"}),
    Reply(body=b'{"snapshot_id": "sha256:short", "mpack_url": 1}', headers={"Content-Type": "application/json"}),
    Reply(body=b'{"mpack_url": "/p", "mpack_id": null}', headers={"Content-Type": "application/json"}),
    Reply(body=b"\xc1", headers={"Content-Type": "application/x-msgpack"}),
    Reply(body=b"\xdf\xff\xff\xff\xff", headers={"Content-Type": "application/x-msgpack"}),
    Reply(body=b"\x1f\x8b garbage", headers={"Content-Encoding": "gzip"}),
    Reply(status=418),
    Reply(status=500),
    Reply(status=404),
    Reply(status=302, headers={"Location": "http://198.51.100.7/elsewhere"}),
    Reply(status=302),
    Reply(body=b"x" * 65536, endless=True),
    Reply(announce=100, body=b"too little", cut=10),
]


@pytest.mark.parametrize("kind", ["refs", "fetch", "pack"])
def test_a_server_that_answers_with_something_else(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, kind: str
) -> None:
    first = publisher.publish(catalog(3))
    pull()
    last = publisher.publish(catalog(4))
    for reply in GARBAGE:
        server.replies[kind] = [reply] * 9

        with pytest.raises((Refused, Unavailable, NotOffered)):
            pull(limits=Limits(wait=0, pack_bytes=1_000_000, patience=QUICK.patience))

        assert_shows(folder, first)
    server.replies[kind] = []
    pull()
    assert_shows(folder, last)
    assert leftovers(folder) == []


@pytest.mark.parametrize("kind", ["refs", "fetch"])
def test_an_answer_that_drips_is_not_waited_for(
    publisher: Publisher, server: PublisherServer, pull: Pull, kind: str
) -> None:
    publisher.publish(catalog(3))
    server.replies[kind] = [Reply(body=b" " * 1000, pause=0.05, chunk=1)]

    with pytest.raises(Unavailable) as refused:
        pull(limits=Limits(wait=0, patience=Patience(read=2, answer=0.3)))

    assert refused.value.code == "server-slow"


def test_a_pack_that_drips_is_given_up_and_what_came_is_kept(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(100))

    def slow(asked: Asked) -> Reply:
        true = server.pack(asked)
        return Reply(headers=true.headers, body=true.body, pause=0.05, chunk=10)

    server.replies["pack"] = [slow]
    with pytest.raises(Unavailable) as refused:
        pull(limits=Limits(wait=0, patience=Patience(read=20, window=0.3)))

    assert refused.value.code == "server-slow"
    pull()
    assert server.requests("pack")[-1].headers["range"] > "bytes=0-"
    assert_shows(folder, published)


def test_a_server_that_is_silent_is_not_waited_for(publisher: Publisher, server: PublisherServer, pull: Pull) -> None:
    publisher.publish(catalog(3))
    server.replies["refs"] = [Reply(body=b"x", pause=1.0)]

    with pytest.raises(Unavailable) as refused:
        pull(limits=Limits(wait=0, patience=Patience(read=0.2, answer=5)))

    assert refused.value.code == "server-slow"


def test_a_server_that_is_not_there(folder: Path) -> None:
    with Mirror(folder, "http://127.0.0.1:9/a/b", limits=QUICK) as mirror, pytest.raises(Unavailable) as refused:
        mirror.pull()

    assert refused.value.code == "server-unreachable"


# Packs and manifests that are not to be trusted.


def test_a_flipped_byte_in_a_pack(publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path) -> None:
    first = publisher.publish(catalog(30))
    pull()
    last = publisher.publish(catalog(40))

    def flipped(asked: Asked) -> Reply:
        true = server.pack(asked)
        return Reply(headers=true.headers, body=bytes([true.body[0] ^ 1]) + true.body[1:])

    server.replies["pack"] = [flipped]
    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "pack-digest"
    assert_shows(folder, first)
    pull()
    assert_shows(folder, last)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -10], ids=["nothing", "some", "half", "all but the end"])
def test_a_truncated_pack_whose_name_fits(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, keep: float
) -> None:
    first = publisher.publish(catalog(30))
    pull()
    publisher.publish(catalog(400))
    server.tamper = lambda data: data[: int(len(data) * keep) if isinstance(keep, float) else keep]

    with pytest.raises(MirrorError) as refused:
        pull()

    assert refused.value.code == "pack-damaged"
    assert_shows(folder, first)


def test_a_folder_that_goes_away_is_not_begun_anew_with_whoever_answers(
    publisher: Publisher, server: PublisherServer, folder: Path
) -> None:
    first = publisher.publish(catalog(30))
    with Mirror(folder, server.url, limits=QUICK) as mirror:
        mirror.pull()
        folder.rename(folder.with_name("unplugged"))
        publisher.publish(catalog(31))

        with pytest.raises(LocalProblem) as refused:
            mirror.pull()

        assert refused.value.code == "folder-lost"
        assert shown(folder) is None
        shutil.rmtree(folder)
        folder.with_name("unplugged").rename(folder)
        assert_shows(folder, first)
        assert mirror.pull().changed, "it goes on when the disk is back"


def test_another_catalog_of_the_same_publisher(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    name = "/".join(server.url.split("/")[-2:])
    first = publisher.publish(catalog(30), catalog=name)
    pull()
    assert_shows(folder, first)
    publisher.publish(catalog(31), catalog="someone/else")

    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "signed-as-another"
    assert_shows(folder, first)


@pytest.mark.parametrize("early", [True, False], ids=["shown in refs", "only in the pack"])
def test_a_forged_manifest(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, early: bool
) -> None:
    first = publisher.publish(catalog(30))
    pull()
    forger = Publisher(lineage=publisher.lineage, snapshots=[first])
    server.publisher, server.shows_manifest = forger, early
    forger.publish(catalog(31))

    with pytest.raises(SignatureError) as refused:
        pull()

    assert refused.value.code == "key-unknown"
    assert_shows(folder, first)
    assert len(server.requests("fetch")) == (1 if early else 2)
    assert leftovers(folder) == []


def test_a_manifest_that_was_changed_after_it_was_signed(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    first = publisher.publish(catalog(30))
    pull()
    publisher.publish(catalog(31)).manifest["track_count"] = 9

    with pytest.raises(SignatureError) as refused:
        pull()

    assert refused.value.code == "signature-wrong"
    assert_shows(folder, first)


@pytest.mark.parametrize("early", [True, False], ids=["shown in refs", "only in the pack"])
def test_an_older_snapshot_offered_as_new(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, early: bool
) -> None:
    older = publisher.publish(catalog(30))
    newer = publisher.publish(catalog(31))
    pull()
    server.newest, server.shows_manifest = older, early

    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "rollback"
    assert_shows(folder, newer)
    pull(allow_rollback=True)
    assert_shows(folder, older)
    assert not pull().changed
    assert len(list((folder / "snapshots").iterdir())) == 2, "what was current before may have readers"


def test_an_older_snapshot_is_not_accepted_where_current_was_lost(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    older = publisher.publish(catalog(30))
    publisher.publish(catalog(31))
    pull()
    (folder / "current").unlink()
    server.newest = older

    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "rollback"
    assert shown(folder) is None


def test_a_signed_manifest_with_other_content(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    first = publisher.publish(catalog(30))
    pull()
    signed = publisher.publish(catalog(31))
    pack, blobs = pack_of(catalog(31, note="?"), None, manifest=signed.manifest_bytes, ids=(signed.id, None))
    server.replies["fetch"] = [lambda _: server.offer(pack, blobs)] * 2

    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "content-mismatch"
    assert_shows(folder, first)
    assert leftovers(folder) == []


def test_a_pack_that_unfolds_without_end(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    first = publisher.publish(catalog(30))
    pull()
    signed = publisher.publish(catalog(31))
    bomb: Content = {
        ("catalog_tracks", key): ((key, "p", str(key), "a" * 20_000_000, None, None, None, None),) for key in range(8)
    }
    pack, blobs = pack_of(bomb, None, manifest=signed.manifest_bytes, ids=(signed.id, None))
    assert len(pack) < 100_000
    server.replies["fetch"] = [lambda _: server.offer(pack, blobs)]

    with pytest.raises(MirrorError) as refused:
        pull()

    assert refused.value.code == "pack-too-large"
    assert_shows(folder, first)


@pytest.mark.parametrize("how", ["more than announced", "more than allowed", "more than allowed, unannounced"])
def test_a_pack_that_is_too_large(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path, how: str
) -> None:
    publisher.publish(catalog(3000))
    limits = QUICK if how == "more than announced" else Limits(wait=0, pack_bytes=10_000, patience=QUICK.patience)
    server.announced = {"more than announced": 10_000, "more than allowed": None}.get(how, 0)
    if server.announced == 0:
        server.announced = None
        server.replies["pack"] = [lambda asked: Reply(body=server.pack(asked).body, endless=True)]

    with pytest.raises(Refused) as refused:
        pull(limits=limits)

    assert refused.value.code == "pack-too-large"
    assert shown(folder) is None
    assert leftovers(folder) == []


def test_a_copy_that_was_damaged_here_is_mended_by_a_full_fetch(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    publisher.publish(catalog(300))
    pull()
    database = current_database(folder)
    database.chmod(0o644)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE catalog_tracks SET name = 'changed here'")
        connection.commit()
    last = publisher.publish(catalog(301))

    pulled = pull()

    assert not pulled.delta
    assert_shows(folder, last)


def test_everything_anew_where_nothing_is_new(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(30))
    pull()
    database = current_database(folder)
    database.chmod(0o644)
    os.truncate(database, 4096)

    assert not pull().changed
    assert pull(full=True).changed
    assert_shows(folder, published)


def test_a_key_that_was_given_is_the_only_one_believed_first(publisher: Publisher, pull: Pull, folder: Path) -> None:
    publisher.publish(catalog(3))

    with pytest.raises(SignatureError):
        pull(keys=[SigningKey.generate().public_key])
    assert shown(folder) is None

    assert pull(keys=[publisher.key.public_key]).first_keys == {}


# Credentials, redirects, folders.


def test_a_private_catalog_takes_its_token_and_shows_it_to_nobody_else(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(3))
    server.token = "only-for-this-server"
    with pytest.raises(NotOffered, match="token"):
        pull()
    with pytest.raises(NotOffered, match="not accepted"):
        pull(token="another")

    with serving(publisher) as store:
        server.pack_host = store.origin
        server.packs = store.packs
        pull(token=server.token)

        assert_shows(folder, published)
        assert [one.headers.get("authorization") for one in store.requests("pack")] == [None]
    assert all("authorization" not in one.headers for one in server.requests("pack"))
    everything = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(b"only-for-this-server" in content for content in everything)


def test_a_token_does_not_follow_a_redirect_to_another_server(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(3))
    with serving(publisher) as other:
        server.replies["refs"] = [Reply(status=307, headers={"Location": f"{other.url}/refs"})]
        server.replies["fetch"] = [Reply(status=307, headers={"Location": f"{other.url}/fetch"})]

        pull(token="secret")

        assert [one.headers.get("authorization") for one in other.asked] == [None, None, None]
    assert_shows(folder, published)


def test_redirects_end(publisher: Publisher, server: PublisherServer, pull: Pull) -> None:
    publisher.publish(catalog(3))
    server.replies["refs"] = [Reply(status=302, headers={"Location": f"{server.url}/refs"})] * 50

    with pytest.raises(Refused, match="redirects"):
        pull()

    assert len(server.asked) == 6


def test_one_folder_holds_one_catalog(publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path) -> None:
    publisher.publish(catalog(3))
    pull()

    with (
        Mirror(folder, f"{server.origin}/somebody/other", limits=QUICK) as mirror,
        pytest.raises(SettingsProblem, match="folder of its own"),
    ):
        mirror.pull()


def test_a_name_that_was_mistyped_at_first_does_not_bind_the_folder(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    published = publisher.publish(catalog(3))
    with Mirror(folder, f"{server.origin}/somebody/musik", limits=QUICK) as mirror, pytest.raises(NotOffered):
        mirror.pull()

    pull()

    assert_shows(folder, published)


def test_a_pull_that_ended_before_its_last_note_is_remembered(
    publisher: Publisher, server: PublisherServer, pull: Pull, folder: Path
) -> None:
    older = publisher.publish(catalog(3))
    pull()
    before = (folder / "mirror.json").read_bytes()
    newer = publisher.publish(catalog(4))
    pull()
    (folder / "mirror.json").write_bytes(before)
    server.newest = older

    with pytest.raises(Refused) as refused:
        pull()

    assert refused.value.code == "rollback"
    assert_shows(folder, newer)
