"""The example catalog while snapshots come and go: nobody notices, and nothing bad is ever shown."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.public_catalog import CatalogProcess, Given, GivenList, MirrorFolder, make_snapshot, running

Made = tuple[Path, dict[str, Any]]


def generation(folder: Path, number: int) -> Made:
    """A snapshot in which everything tells its number, and so do the counts."""
    songs = [Given(song_id=one, name=f"Song {one} gen{number}") for one in range(1, 60 + number)]
    lists = [
        GivenList(playlist_id=one, name=f"List {one} gen{number}", songs=range(1, 40), group=f"Group gen{number}")
        for one in range(1, 6)
    ]
    snapshot = folder / f"generation-{number}"
    return snapshot, make_snapshot(snapshot, songs, lists)


@pytest.fixture(scope="module")
def generations(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    folder = tmp_path_factory.mktemp("generations")
    return [generation(folder, number) for number in range(4)]


@pytest.fixture
def mirror(tmp_path: Path) -> MirrorFolder:
    return MirrorFolder(tmp_path / "mirror")


@pytest.fixture
def catalog(tmp_path: Path, mirror: MirrorFolder) -> Iterator[CatalogProcess]:
    with running(tmp_path, mirror.path) as catalog:
        yield catalog


def fetch(catalog: CatalogProcess, path: str) -> httpx.Response:
    return httpx.get(catalog.url + path, trust_env=False)


def test_requests_never_fail_and_never_see_two_snapshots_while_they_change(
    catalog: CatalogProcess, mirror: MirrorFolder, generations: list[Made]
) -> None:
    mirror.show(generations[0][0])
    catalog.until_shown(generations[0][1])
    paths = [
        "/",
        "/toplists",
        "/playlists",
        "/playlists/3",
        "/songs/7",
        "/search?q=song",
        "/search?q=list&in=playlists",
    ]
    stop, failures, seen = threading.Event(), list[str](), set[str]()

    def visit(start: int) -> None:
        with httpx.Client(base_url=catalog.url, trust_env=False) as client:
            for step in range(start, 1_000_000):
                if stop.is_set():
                    return
                path = paths[step % len(paths)]
                try:
                    answer = client.get(path)
                except httpx.HTTPError as error:
                    failures.append(f"{path}: {error!r}")
                    continue
                numbers = set(re.findall(r"gen(\d)", answer.text))
                counted = re.search(r"<footer.*?(\d+) songs", answer.text, re.DOTALL)
                if answer.status_code != 200 or counted is None or numbers != {str(int(counted[1]) - 59)}:
                    failures.append(f"{path}: {answer.status_code} {numbers} {counted and counted[1]}")
                seen.update(numbers)

    visitors = [threading.Thread(target=visit, args=(start,)) for start in range(6)]
    for visitor in visitors:
        visitor.start()
    try:
        for switch in range(1, 11):
            snapshot, manifest = generations[switch % len(generations)]
            # The mirror forgets the older ones at once: who reads them has them open.
            mirror.show(snapshot, forget=True)
            catalog.until_shown(manifest)
    finally:
        stop.set()
        for visitor in visitors:
            visitor.join()
    assert failures == []
    assert seen == {"0", "1", "2", "3"}
    # What nobody reads any more is closed: 8 connections to one catalog and one index, no deleted file.
    catalog.until(lambda: len(catalog.open_files("catalog_read.db")) == 8, "old snapshots stay open")
    catalog.until(lambda: len(catalog.open_files("search-")) == 8, "old indexes stay open")
    assert not [path for path in catalog.open_files(".db") if "deleted" in path]
    assert len(list(catalog.cache.glob("search-*.db"))) == 1
    assert catalog.stop() == -signal.SIGTERM


def half(snapshot: Path) -> None:
    database = snapshot / "catalog_read.db"
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2)


def one_page(snapshot: Path) -> None:
    database = snapshot / "catalog_read.db"
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * 4096)


def not_sqlite(snapshot: Path) -> None:
    (snapshot / "catalog_read.db").write_bytes(b"<html>502 Bad Gateway</html>")


def no_database(snapshot: Path) -> None:
    (snapshot / "catalog_read.db").unlink()


def no_manifest(snapshot: Path) -> None:
    (snapshot / "manifest.json").unlink()


def half_a_manifest(snapshot: Path) -> None:
    text = (snapshot / "manifest.json").read_text()
    (snapshot / "manifest.json").write_text(text[: len(text) // 2])


def change_manifest(**fields: object) -> Callable[[Path], None]:
    def damage(snapshot: Path) -> None:
        content = json.loads((snapshot / "manifest.json").read_text())
        (snapshot / "manifest.json").write_text(json.dumps({**content, **fields}))

    return damage


def change_database(statement: str) -> Callable[[Path], None]:
    def damage(snapshot: Path) -> None:
        with contextlib.closing(sqlite3.connect(snapshot / "catalog_read.db", isolation_level=None)) as connection:
            connection.execute(statement)

    return damage


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("half copied", half),
    ("damaged", one_page),
    ("no SQLite database", not_sqlite),
    ("catalog_read.db is missing", no_database),
    ("manifest.json is missing", no_manifest),
    ("only half of one", half_a_manifest),
    ("not a manifest", change_manifest(generated_at=7)),
    ("names no snapshot", change_manifest(snapshot_id="../../x")),
    ("schema version 99", change_manifest(schema_version=99)),
    ("rows where the manifest says 3", change_manifest(track_count=3)),
    ("no table catalog_toplists", change_database("DROP TABLE catalog_toplists")),
    ("no column singers", change_database("ALTER TABLE catalog_tracks RENAME COLUMN singers TO artists")),
]


def test_what_cannot_be_shown_leaves_the_last_good_one_and_is_told(
    catalog: CatalogProcess, mirror: MirrorFolder, generations: list[Made], tmp_path: Path
) -> None:
    (good, manifest), (newer, newer_manifest) = generations[0], generations[1]
    mirror.show(good)
    catalog.until_shown(manifest)
    for number, (sentence, damage) in enumerate(DAMAGES):
        broken = tmp_path / f"broken-{number}"
        shutil.copytree(newer, broken)
        damage(broken)
        mirror.show(broken)

        catalog.until(lambda told=sentence: told in (problem(catalog) or ""), sentence)  # type: ignore[misc]

        about = fetch(catalog, "/about").text
        assert sentence in about
        assert manifest["snapshot_id"] in about
        assert "Song 7 gen0" in fetch(catalog, "/songs/7").text
        assert sentence in catalog.log.read_text()
    # A copy that is still on its way is shown when it is whole.
    target = mirror.path / "snapshots" / "slowly"
    target.mkdir()
    shutil.copy(newer / "manifest.json", target)
    (target / "catalog_read.db").write_bytes((newer / "catalog_read.db").read_bytes()[:10_000])
    mirror.point(target)
    catalog.until(lambda: "half" in (problem(catalog) or ""), "half a copy")
    shutil.copy(newer / "catalog_read.db", target)
    catalog.until_shown(newer_manifest)
    assert problem(catalog) is None
    assert "not shown" not in fetch(catalog, "/about").text
    # A folder that vanishes takes nothing along.
    (mirror.path / "current").unlink()
    catalog.until(lambda: problem(catalog) is not None, "the folder is empty")
    assert "Song 7 gen1" in fetch(catalog, "/songs/7").text


def problem(catalog: CatalogProcess) -> str | None:
    health = catalog.health()
    assert health is not None
    found = health["problem"]
    return None if found is None else str(found)


def test_before_the_first_pull_it_says_what_to_do_and_opens_by_itself(
    catalog: CatalogProcess, mirror: MirrorFolder, generations: list[Made], tmp_path: Path
) -> None:
    for path in ("/", "/search?q=x", "/songs/1/files/0123456789abcdef", "/about"):
        answer = fetch(catalog, path)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["cache-control"] == "no-store"
        assert "music-cloud-mirror pull URL --into DIR" in answer.text
        assert str(tmp_path) not in answer.text
    assert fetch(catalog, "/healthz").status_code == 503
    assert fetch(catalog, re.findall(r'href="(/static[^"]+css)"', fetch(catalog, "/").text)[0]).status_code == 200
    snapshot, manifest = generations[2]
    broken = tmp_path / "broken"
    shutil.copytree(snapshot, broken)
    half(broken)
    mirror.show(broken)
    catalog.until(lambda: "half copied" in fetch(catalog, "/").text, "the reason")
    mirror.show(snapshot)
    catalog.until_shown(manifest)
    assert "gen2" in fetch(catalog, "/search?q=song").text


def test_the_exporters_folder_and_a_plain_folder_are_followed_too(tmp_path: Path, generations: list[Made]) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(generations[0][0], folder)
    with running(tmp_path, folder) as catalog:
        catalog.until_shown(generations[0][1])
        # export-snapshot puts another pair in the place of this one.
        manifest = make_snapshot(folder, [Given(song_id=1, name="Another gen9")])
        catalog.until_shown(manifest)
        assert "Another gen9" in fetch(catalog, "/songs/1").text


def test_without_a_cache_folder_pages_work_and_search_is_slow(
    tmp_path: Path, mirror: MirrorFolder, generations: list[Made]
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    mirror.show(generations[0][0])
    with running(tmp_path, mirror.path) as catalog:
        catalog.until_shown(generations[0][1], search=False)
        catalog.until(lambda: "There is no search index" in fetch(catalog, "/about").text, "the reason")
        first = fetch(catalog, "/search?q=song+gen0")
        assert first.text.count('class="song"') == 50
        assert "index of this catalog is being made" in first.text
        mirror.show(generations[1][0])
        catalog.until_shown(generations[1][1], search=False)
        assert "gen1" in fetch(catalog, "/search?q=song").text


def test_an_index_is_used_again_after_a_restart_and_made_anew_if_it_is_damaged(
    tmp_path: Path, mirror: MirrorFolder, generations: list[Made]
) -> None:
    mirror.show(generations[0][0])
    numbers = []
    for damage in (False, False, True):
        if damage:
            (index,) = (tmp_path / "cache").glob("search-*.db")
            index.write_bytes(b"not a database, surely not")
        with running(tmp_path, mirror.path) as catalog:
            catalog.until_shown(generations[0][1])
            assert "gen0" in fetch(catalog, "/search?q=song").text
        (index,) = (tmp_path / "cache").glob("search-*.db")
        numbers.append((index.stat().st_ino, index.stat().st_mtime_ns))
    assert numbers[0] == numbers[1] != numbers[2]


def test_it_ends_at_once_also_while_an_index_is_made(tmp_path: Path, mirror: MirrorFolder) -> None:
    songs = [Given(song_id=number, name=f"晴天 {number}") for number in range(1, 30_000)]
    make_snapshot(tmp_path / "large", songs)
    mirror.show(tmp_path / "large")

    # An index may be complete in the moment before: that was no middle to end in.
    assert any(left_unmade(tmp_path / str(attempt), mirror) for attempt in range(5))


def left_unmade(folder: Path, mirror: MirrorFolder) -> bool:
    """Whether a catalog that was ended when it had begun to make an index did not make it to its end."""
    folder.mkdir()
    with running(folder, mirror.path) as catalog:
        catalog.until(lambda: any(catalog.cache.glob("search-*")), "no index is made")
        started = time.monotonic()
        assert catalog.stop() == -signal.SIGTERM
        assert time.monotonic() - started < 15
        return not list(catalog.cache.glob("search-*.db"))
