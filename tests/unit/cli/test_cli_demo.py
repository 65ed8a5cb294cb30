import mutagen
import pytest
import soundfile

from cli.demo.library import DAMAGED_SONG, FEED_SONGS, FOLDER_SONGS, DemoLibrary, ensure_demo
from cli.demo.melodies import melody


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoLibrary:
    return ensure_demo(tmp_path_factory.mktemp("demo"))


def test_every_song_can_be_played_and_only_the_damaged_one_cannot(demo: DemoLibrary) -> None:
    for folder, songs in ((demo.music, FOLDER_SONGS), (demo.feed, FEED_SONGS)):
        for song in songs:
            assert len(soundfile.read(folder / song.path)[0]) / 44_100 == pytest.approx(song.seconds, abs=0.2)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(demo.music / DAMAGED_SONG.path)


def test_songs_are_tagged_in_every_script_and_one_is_not(demo: DemoLibrary) -> None:
    tags = mutagen.File(demo.music / "星河乐队/夜航/01 月光.mp3", easy=True)
    assert (tags["title"], tags["artist"]) == (["月光"], ["星河乐队"])
    assert not mutagen.File(demo.music / "Loose tapes/Untitled recording.wav").tags


def test_the_playlist_lists_files_that_are_there(demo: DemoLibrary) -> None:
    lines = (demo.music / "An evening at home.m3u8").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if not line.startswith("#")]
    assert entries
    assert all((demo.music / entry).is_file() for entry in entries)


def test_making_it_again_changes_nothing(demo: DemoLibrary) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.music.rglob("*")}
    ensure_demo(demo.music.parent)
    assert {path: path.stat().st_mtime_ns for path in demo.music.rglob("*")} == before
    assert sorted(path.name for path in demo.music.parent.iterdir()) == ["feed", "music"]


def test_a_melody_is_the_same_every_time_and_never_clips() -> None:
    first, second = (melody(seed=3, seconds=1.0, voice="bell") for _ in range(2))
    assert (first == second).all()
    assert 0.5 < abs(first).max() < 1.0
