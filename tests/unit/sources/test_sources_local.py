"""The folder source: what it lists, what it leaves out and says, and that it never leaves its root."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.work import SongDownload
from common.errors import DependencyDown, PermanentError
from common.settings import Settings
from sources.local import LocalSource, create
from sources.paths import escape, locate, relative_parts, unescape
from sources.port import Playlist, Song
from tests.support.audio import make_audio
from tests.support.tagged import wav


class Nothing:
    """Knows no song."""

    def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
        return {}


def silent(done: int, total: int | None = None) -> None:
    return


def refs(root: Path) -> list[str]:
    return [ref.remote_id for ref in LocalSource(root=root).playlists("folder", progress=silent)]


def read(root: Path, remote_id: str) -> Playlist:
    return LocalSource(root=root).read(remote_id, known=Nothing(), progress=silent)


def request(remote_id: str) -> SongDownload:
    return SongDownload(job_id=1, source="local", song_id=1, remote_id=remote_id, name="x")


def test_a_playlist_per_directory_with_audio_and_every_playlist_file(tmp_path: Path) -> None:
    wav(tmp_path / "loose.wav")
    wav(tmp_path / "B" / "b.wav")
    wav(tmp_path / "A" / "Deep" / "a.WAV")
    wav(tmp_path / ".hidden" / "x.wav")
    wav(tmp_path / "@eaDir" / "x.wav")
    (tmp_path / "B" / "cover.jpg").write_bytes(b"x")
    for name in ("one.m3u", "two.M3U8", "B/three.xspf", "four.jspf"):
        (tmp_path / name).write_text("#EXTM3U\n")
    assert refs(tmp_path) == ["./", "four.jspf", "one.m3u", "two.M3U8", "A/Deep/", "B/", "B/three.xspf"]


@pytest.mark.parametrize("ext", ["wav", "flac", "mp3", "ogg", "opus"])
def test_tags_of_every_format(tmp_path: Path, ext: str) -> None:
    make_audio(tmp_path / f"x.{ext}", ext=ext, seconds=0.2, title="Titel", artist="Sängerin", album="Album")
    (song,) = read(tmp_path, "./").songs
    assert (song.name, song.singers, song.album, song.ext) == ("Titel", ("Sängerin",), "Album", ext)
    assert song.metadata_status == "complete"
    assert song.duration_seconds == pytest.approx(0.2, abs=0.1)
    assert song.size == (tmp_path / f"x.{ext}").stat().st_size


def test_missing_or_broken_tags_do_not_stop_a_song(tmp_path: Path) -> None:
    wav(tmp_path / "01 Näme.wav")
    (tmp_path / "empty.mp3").write_bytes(b"")
    (tmp_path / "lies.flac").write_bytes(b"fLaC" + b"\xff" * 500)
    (tmp_path / "page.mp3").write_text("<html>")
    songs = {song.remote_id: song for song in read(tmp_path, "./").songs}
    assert {name: (song.name, song.metadata_status) for name, song in songs.items()} == {
        "01 Näme.wav": ("01 Näme", "pending"),
        "empty.mp3": ("empty", "pending"),
        "lies.flac": ("lies", "pending"),
        "page.mp3": ("page", "pending"),
    }


def test_the_fingerprint_changes_with_the_file_and_only_then(tmp_path: Path) -> None:
    file = wav(tmp_path / "a.wav")

    def fingerprint() -> str | None:
        return read(tmp_path, "./").songs[0].fingerprint

    first = fingerprint()
    assert fingerprint() == first
    os.utime(file, ns=(1, 1))
    assert fingerprint() != first


def test_a_known_file_is_not_opened_again(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav", title="Right")
    known_song = Song(remote_id="a.wav", name="from the record")

    class Known:
        def unchanged(self, fingerprints: Mapping[str, str]) -> Mapping[str, Song]:
            assert list(fingerprints) == ["a.wav"]
            return {"a.wav": known_song}

    playlist = LocalSource(root=tmp_path).read("./", known=Known(), progress=silent)
    assert playlist.songs == (known_song,)


def test_names_that_are_no_text_keep_their_identity(tmp_path: Path) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(raw)
    with open(os.path.join(raw, b"\xff\\x41.wav"), "wb") as file:
        file.write(wav(tmp_path / "x.wav").read_bytes())
    assert refs(tmp_path) == ["./", "caf\\xe9/"]
    (song,) = read(tmp_path, "caf\\xe9/").songs
    assert song.remote_id == "caf\\xe9/\\xff\\\\x41.wav"
    (candidate,) = LocalSource(root=tmp_path).resolve(request(song.remote_id))
    assert os.fsencode(candidate.path) == os.path.join(os.path.realpath(raw), b"\xff\\x41.wav")


@given(st.binary(min_size=1, max_size=60))
def test_escaping_is_reversible_and_valid_text(raw: bytes) -> None:
    name = os.fsdecode(raw)
    escaped = escape(name)
    assert unescape(escaped) == name
    escaped.encode("utf-8")


@given(st.text(max_size=60))
def test_no_remote_id_leads_outside(text: str) -> None:
    try:
        parts = relative_parts(text)
    except PermanentError as error:
        assert error.code == "outside-folder"
        return
    assert all(part not in ("", ".", "..") and "/" not in part and "\0" not in part for part in parts)


def test_links_out_and_loops_are_not_followed(tmp_path: Path) -> None:
    outside = wav(tmp_path / "outside" / "secret.wav")
    root = tmp_path / "root"
    wav(root / "in" / "a.wav")
    (root / "in" / "loop").symlink_to(root, target_is_directory=True)
    (root / "away").symlink_to(outside.parent, target_is_directory=True)
    (root / "in" / "leak.wav").symlink_to(outside)
    (root / "in" / "same.wav").symlink_to(root / "in" / "a.wav")
    (root / "in" / "dangling.wav").symlink_to(root / "nowhere.wav")
    (root / "in" / "self.wav").symlink_to("self.wav")
    assert refs(root) == ["in/"]
    playlist = read(root, "in/")
    assert [song.remote_id for song in playlist.songs] == ["in/a.wav", "in/same.wav"]
    assert any("leak.wav is a link that leads outside" in problem for problem in playlist.problems)
    source = LocalSource(root=root)
    for remote_id, code in [
        ("in/leak.wav", "outside-folder"),
        ("away/secret.wav", "outside-folder"),
        ("../outside/secret.wav", "outside-folder"),
        ("/etc/passwd", "outside-folder"),
        ("in/\0.wav", "outside-folder"),
        ("in/gone.wav", "source-file-missing"),
        ("in/dangling.wav", "source-file-missing"),
        ("in/self.wav", "source-file-unreadable"),
    ]:
        with pytest.raises(PermanentError) as error:
            source.resolve(request(remote_id))
        assert error.value.code == code, remote_id
        assert str(tmp_path) not in error.value.message
    with pytest.raises(PermanentError):
        read(root, "away/")
    with pytest.raises(PermanentError):
        read(root, "../outside/")


def test_what_is_no_plain_file_is_left_out_with_a_reason(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    playlist = read(tmp_path, "./")
    assert [song.remote_id for song in playlist.songs] == ["a.wav"]
    assert playlist.problems == ("pipe.wav is not a plain file, and was left out.",)


@pytest.mark.parametrize("name", ["list.m3u", "list.xspf"])
def test_entries_of_a_playlist_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    wav(root / "Lists" / "own.wav")
    wav(root / "Other" / "a b.wav")
    wav(tmp_path / "secret.wav")
    (root / "link").symlink_to(tmp_path, target_is_directory=True)
    locations = [
        "own.wav",
        "../Other/a b.wav" if name.endswith("m3u") else "../Other/a%20b.wav",
        str(root / "Other" / "a b.wav").replace(" ", " " if name.endswith("m3u") else "%20"),
        "..\\Other\\a b.wav" if name.endswith("m3u") else "file://" + str(root / "Other" / "a%20b.wav"),
        "gone.wav",
        "../../secret.wav",
        "/etc/passwd.mp3",
        "../link/secret.wav",
        "http://elsewhere.example/x.mp3",
        "ftp://elsewhere.example/x.mp3",
        "notes.txt",
    ]
    if name.endswith("m3u"):
        (root / "Lists" / name).write_text("\n".join(["#EXTM3U", *locations]))
    else:
        tracks = "".join(f"<track><location>{one}</location></track>" for one in locations)
        (root / "Lists" / name).write_text(f"<playlist><trackList>{tracks}</trackList></playlist>")
    playlist = read(root, f"Lists/{name}")
    assert [song.remote_id for song in playlist.songs] == [
        "Lists/own.wav",
        "Other/a b.wav",
        "Other/a b.wav",
        "Other/a b.wav",
        "Lists/gone.wav",
    ]
    assert len(playlist.problems) == 6
    assert any("Put this playlist into FEEDS" in problem for problem in playlist.problems)
    assert not any(str(tmp_path) in problem for problem in playlist.problems)


def test_an_old_playlist_in_a_western_encoding_finds_its_files(tmp_path: Path) -> None:
    wav(tmp_path / "Jóga.wav", title="J", artist="B")
    (tmp_path / "old.m3u").write_bytes("Jóga.wav\n".encode("cp1252"))
    (song,) = read(tmp_path, "old.m3u").songs
    assert (song.remote_id, song.name) == ("Jóga.wav", "J")


def test_a_missing_folder_holds_and_an_unset_one_is_not_configured(tmp_path: Path) -> None:
    source = create(Settings(local_media_import_path=tmp_path / "gone"))
    assert (source.health().configured, source.health().available) == (True, False)
    with pytest.raises(DependencyDown):
        list(source.playlists("folder", progress=silent))
    unset = create(Settings())
    assert unset.health().configured is False and list(unset.pools()) == []


def test_an_unreadable_folder_is_listed_and_says_so_on_its_own_item(tmp_path: Path) -> None:
    """Tests may run as root, who may read everything: the folder is read by a child that gave that right away."""
    wav(tmp_path / "ok" / "a.wav")
    (tmp_path / "locked").mkdir()
    wav(tmp_path / "locked" / "b.wav")
    (tmp_path / "locked").chmod(0)
    result = without_rights(lambda: (refs(tmp_path), reason_of(tmp_path, "locked/")))
    (tmp_path / "locked").chmod(0o755)
    assert result == "(['locked/', 'ok/'], 'folder-unreadable')"


def reason_of(root: Path, remote_id: str) -> str:
    try:
        read(root, remote_id)
    except PermanentError as error:
        return error.code
    return "read"


def without_rights(ask: Callable[[], object]) -> str:
    """What ``ask`` answers in a process that may no more than the permissions of its user say, root or not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # All capabilities, by capset(2): root then is a user as others are, and the owner of the folders above.
            version_3 = struct.pack("Ii", 0x20080522, 0)
            assert ctypes.CDLL(None).capset(version_3, bytes(24)) == 0
            os.write(writer, str(ask()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    return answer


def test_locate_names_no_path_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as error:
        locate(tmp_path, "a/b.mp3")
    assert str(tmp_path) not in error.value.message
