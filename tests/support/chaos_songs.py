"""What the jobs of a fault run collect: slow songs of a feed, a mounted folder, and some that are bad."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.audio import make_audio
from tests.support.http_server import Behavior, ScriptedServer

PAGE = b"<!doctype html><html><body><h1>Please log in</h1></body></html>" * 40
FEED_SONGS = 30
FOLDER_SONGS = 24


class Songs:
    """Two web servers and a folder. ``good``: remote id to sha256; ``bad``: remote ids that can never be stored."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / "music"
        self.good: dict[str, str] = {}
        self.bad: set[str] = set()
        self._web, self._busy = ScriptedServer(), ScriptedServer()
        self._work = directory / "web"
        self._fill_folder()
        self.feeds = (self._slow_feed(), self._bad_feed())

    def close(self) -> None:
        self._web.stop()
        self._busy.stop()

    def _fill_folder(self) -> None:
        for number in range(FOLDER_SONGS):
            name = f"album {number % 3}/{number:02}.wav"
            self._make(self.folder / name, f"Folder song {number}", seconds=0.3, frequency=200 + number)
            self._is_good(name, (self.folder / name).read_bytes())
        (self.folder / "album 0" / "page.mp3").write_bytes(PAGE)
        whole = make_audio(self._work / "whole.wav", ext="wav", seconds=0.5, frequency=990).read_bytes()
        (self.folder / "album 1" / "cut.wav").write_bytes(whole[: len(whole) // 2])
        self.bad |= {"album 0/page.mp3", "album 1/cut.wav"}

    def _slow_feed(self) -> str:
        """Each song takes a second or two, so that some are in hand whenever something dies."""
        lines = ["#EXTM3U"]
        for number in range(FEED_SONGS):
            body = self._make(
                self._work / f"slow{number}.wav", f"Slow song {number}", seconds=1.0, frequency=300 + number
            ).read_bytes()
            pause = 0.1 + 0.04 * (number % 5)
            url = self._web.serve(
                f"/slow{number}.wav",
                Behavior(body=body, content_type="audio/wav", etag=f'"{number}"', chunk=8192, pause=pause),
            )
            self._is_good(url, body)
            lines += [f"#EXTINF:1,Singer - Slow song {number}", url]
        return self._web.serve_file("/slow.m3u8", "\n".join(lines).encode(), content_type="audio/x-mpegurl")

    def _bad_feed(self) -> str:
        """A page in place of a song, one that is cut off, one that is missing; and one of a server that is busy."""
        body = self._make(self._work / "busy.wav", "Busy song", seconds=0.5, frequency=700).read_bytes()
        page = self._web.serve("/page.wav", Behavior(body=PAGE, content_type="text/html"))
        gone = self._web.serve("/gone.wav", Behavior(status=404, body=b"gone", content_type="text/plain"))
        cut = self._busy.serve(
            "/cut.wav", Behavior(body=body, content_type="audio/wav", send=len(body) // 2, etag='"cut"', ranges=False)
        )
        wait = Behavior(status=503, headers={"Retry-After": "6"}, content_type="text/plain")
        busy = self._busy.serve("/busy.wav", wait, Behavior(body=body, content_type="audio/wav"))
        self._is_good(busy, body)
        self.bad |= {page, gone, cut}
        lines = ["#EXTM3U"]
        for number, url in enumerate((page, busy, gone, cut)):
            lines += [f"#EXTINF:1,Singer - Odd song {number}", url]
        return self._web.serve_file("/odd.m3u8", "\n".join(lines).encode(), content_type="audio/x-mpegurl")

    def _make(self, path: Path, title: str, *, seconds: float, frequency: int) -> Path:
        return make_audio(path, ext="wav", seconds=seconds, title=title, artist="Singer", frequency=frequency)

    def _is_good(self, remote_id: str, content: bytes) -> None:
        self.good[remote_id] = hashlib.sha256(content).hexdigest()
