"""What content is, whether it is the song, and which error decides."""

from __future__ import annotations

import pytest

from common.contracts.facts import AudioFormat, FileStored, FileTags
from common.contracts.work import SongDownload
from common.errors import DependencyDown, MusicCloudError, PermanentError, TransientError
from downloader.errors import Rejected
from downloader.ports import NO_CHOICE, Choice, Decoded, Inspected
from downloader.service.judge import check_decoded, check_duration, is_current, missing_tags, quality_label
from downloader.service.sniff import kind_of
from downloader.service.troubles import most_hopeful


def song(**fields: object) -> SongDownload:
    values: dict[str, object] = {"job_id": 1, "source": "feed", "song_id": 1, "remote_id": "r", "name": "Name"}
    return SongDownload.model_validate({**values, **fields})


def stored(**fields: object) -> FileStored:
    values: dict[str, object] = {
        "backend": "library",
        "song_id": 1,
        "asset_id": 2,
        "locator": "a.flac",
        "sha256": "0" * 64,
        "size": 1,
        "format": {"ext": "flac", "mime": "audio/flac"},
    }
    return FileStored.model_validate({**values, **fields})


def inspected(**fields: object) -> Inspected:
    values: dict[str, object] = {
        "format": AudioFormat(ext="flac", mime="audio/flac", duration_seconds=10.0),
        "tags": FileTags(),
        "exact_duration": True,
    }
    return Inspected(**{**values, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"fLaC" + bytes(40), "flac"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00fLaC", "flac"),
        (b"ID3\x04\x00\x00\x00\x01\x00\x00" + bytes(50), "mp3"),
        (b"\xff\xfb\x90\x64" + bytes(40), "mp3"),
        (bytes(1000) + b"\xff\xfb\x90\x64" + bytes(40), "mp3"),
        (b"\xff\xf1\x50\x80" + bytes(40), "aac"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "wav"),
        (b"FORM\x00\x00\x00\x00AIFF", "aiff"),
        (b"\x00\x00\x00\x20ftypM4A ", "m4a"),
        (b"OggS" + bytes(24) + b"\x01vorbis", "ogg"),
        (b"OggS" + bytes(24) + b"OpusHead", "opus"),
        (b"OggS" + bytes(24) + b"\x7fFLAC", "oga"),
        (b"MAC \x96\x0f", "ape"),
        (b"wvpk", "wv"),
        (b"DSD \x1c", "dsf"),
    ],
)
def test_audio_is_told_by_its_content(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"", "content-empty"),
        (b"\xef\xbb\xbf\r\n <!doctype HTML>", "content-html"),
        (b"<?xml version='1.0'?><html xmlns='x'>", "content-html"),
        (b"<script>location='/login'</script>", "content-html"),
        (b'[{"a": 1}]', "content-json"),
        ("Ошибка: файл не найден".encode() * 10, "content-text"),
        (("周" * 4000).encode()[:8192], "content-text"),
        (b"%PDF-1.7", "content-not-audio"),
        (b"\x00" * 5000, "content-unknown"),
        (b"\xff\xff\xff\xff", "content-unknown"),
    ],
)
def test_what_is_not_audio_says_what_it_is(head: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        kind_of(head)
    assert caught.value.code == code


def test_a_decoder_must_reach_what_the_container_declares() -> None:
    check_decoded(inspected(frames=441_000), Decoded(frames=441_000, sample_rate=44_100))
    check_decoded(inspected(), Decoded(frames=440_000, sample_rate=44_100))
    for frames in (0, 400_000):
        with pytest.raises(Rejected):
            check_decoded(inspected(frames=441_000), Decoded(frames=frames, sample_rate=44_100))
    with pytest.raises(Rejected):
        check_decoded(inspected(), Decoded(frames=400_000, sample_rate=44_100))
    check_decoded(inspected(exact_duration=False), Decoded(frames=400_000, sample_rate=44_100))


def test_a_checksum_of_its_own_must_agree() -> None:
    with pytest.raises(Rejected):
        check_decoded(inspected(md5=b"a"), Decoded(frames=441_000, sample_rate=44_100, md5=b"b"))


@pytest.mark.parametrize(
    ("listed", "actual", "fits"),
    [
        (None, 10.0, True),
        (0, 10.0, True),
        (-1, 10.0, True),
        (240.0, None, True),
        (240.0, 244.9, True),
        (240.0, 232.0, False),
        (3600.0, 3520.0, True),
        (240.0, 30.0, False),
    ],
)
def test_the_length_must_be_about_the_listed_one(listed: float | None, actual: float | None, fits: bool) -> None:
    wanted = song(duration_seconds=listed)
    if fits:
        check_duration(wanted, actual, tolerance=5.0)
    else:
        with pytest.raises(Rejected, match="listed with"):
            check_duration(wanted, actual, tolerance=5.0)


def test_a_stored_file_is_current_until_the_source_changes() -> None:
    assert not is_current(None, song(), NO_CHOICE)
    assert not is_current(stored(removed=True), song(), NO_CHOICE)
    assert is_current(stored(), song(fingerprint="a"), NO_CHOICE)
    assert is_current(stored(listing_fingerprint="a"), song(), NO_CHOICE)
    assert is_current(stored(listing_fingerprint="a"), song(fingerprint="a"), NO_CHOICE)
    assert not is_current(stored(listing_fingerprint="a"), song(fingerprint="b"), NO_CHOICE)


def test_only_missing_tags_are_filled() -> None:
    listed = song(singers=("A", "B\0C"), album="L")
    assert missing_tags(listed, FileTags(title="x", artists=("y",), album="z")) is None
    assert missing_tags(listed, FileTags(title="x")) == FileTags(artists=("A", "BC"), album="L")
    assert missing_tags(song(), FileTags(title="x")) is None


def test_quality_in_words() -> None:
    assert quality_label(inspected(format=AudioFormat(ext="flac", mime="m", lossless=True))) == "lossless"
    assert quality_label(inspected(format=AudioFormat(ext="mp3", mime="m", bitrate=320_000))) == "320k"
    assert quality_label(inspected()) is None


def test_what_may_work_later_outranks_what_never_will() -> None:
    never, later, down = PermanentError("no"), TransientError("later"), DependencyDown("down")
    assert most_hopeful([never, later, down]) is down
    assert most_hopeful([never, later]) is later
    assert most_hopeful([never]) is never
    nothing: list[MusicCloudError] = []
    assert most_hopeful(nothing).code == "no-candidate"


def test_a_stored_file_is_current_until_a_person_chooses_another() -> None:
    taken, found = stored(candidate_source="feed"), stored(candidate_source="archive", candidate_remote_id="7")
    assert is_current(taken, song(), Choice(match=("feed", "r")))
    assert not is_current(taken, song(), Choice(match=("archive", "7")))
    assert not is_current(taken, song(), Choice(banned=frozenset({("feed", "r")})))
    assert is_current(found, song(), Choice(match=("archive", "7")))
    assert not is_current(found, song(), Choice(match=("archive", "8")))
    assert not is_current(found, song(), Choice(banned=frozenset({("archive", "7")})))
    assert is_current(found, song(), Choice(banned=frozenset({("archive", "8")})))
