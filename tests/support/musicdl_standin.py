"""Stands in for ``musicdl.modules``, with the shape of the real one, and does what the words of a search say.

Copied into an interpreter of its own by ``tests.support.musicdl``; imported nowhere here.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SongInfo:
    def __init__(self, **values: Any) -> None:
        self.raw_data: Any = {}
        self.source: Any = None
        self.song_name: Any = None
        self.singers: Any = None
        self.album: Any = None
        self.ext: Any = None
        self.file_size_bytes: Any = None
        self.duration_s: Any = None
        self.download_url: Any = None
        self.download_url_status: Any = {}
        self.default_download_headers: Any = {}
        self.default_download_cookies: Any = {}
        self.downloaded_contents: Any = None
        self.protocol: Any = "HTTP"
        self.work_dir: Any = "./"
        self.identifier: Any = None
        self.__dict__.update(values)


class BaseMusicClient:
    source = "BaseMusicClient"

    def __init__(
        self,
        search_size_per_source: int = 5,
        logger_handle: Any = None,
        disable_print: bool = False,
        work_dir: str = "musicdl_outputs",
        max_retries: int = 3,
        default_search_cookies: Any = None,
        default_download_cookies: Any = None,
        default_parse_cookies: Any = None,
        search_size_per_page: int = 10,
    ) -> None:
        self.logger_handle = logger_handle
        self.work_dir = work_dir
        self.limit = search_size_per_source
        self.cookies = default_search_cookies
        self.default_download_headers = {"user-agent": "a browser", "Host": "elsewhere.invalid"}
        Path(work_dir).mkdir(parents=True, exist_ok=True)

    def search(
        self,
        keyword: str,
        num_threadings: int = 5,
        request_overrides: Any = None,
        rule: Any = None,
        main_process_context: Any = None,
        main_progress_id: Any = None,
        main_progress_lock: Any = None,
    ) -> list[Any]:
        print("Searching", keyword, flush=True)
        LyricSearchClient().search(artist_name="Ana", track_name=keyword)
        deed, _, argument = keyword.partition(":")
        action = getattr(self, f"do_{deed.strip().replace(' ', '_')}", None)
        return action(argument.strip()) if action else [self.song(1, name=keyword), self.song(2, name=keyword)]

    def parseplaylist(self, playlist_url: str, request_overrides: Any = None) -> list[Any]:
        if "slow" in playlist_url:
            time.sleep(2.5)
        folder = f"{self.work_dir}/{self.source}/2026-11-21-10-00-00 Rainy days"
        return [self.song(number, work_dir=folder, singers="Ana, Ben") for number in range(3)]

    def song(self, number: int, name: str = "Rain", **more: Any) -> SongInfo:
        return SongInfo(
            **{
                "identifier": 1000 + number,
                "song_name": name,
                "singers": "Ana",
                "album": "NULL",
                "ext": "mp3",
                "file_size_bytes": 12345,
                "duration_s": 183,
                "download_url": f"https://files.example.org/{self.source}/{number}.mp3",
                "download_url_status": {"ok": True},
                **more,
            }
        )

    def do_prints(self, argument: str) -> list[Any]:
        os.write(1, b'{"id": 1, "answers": {}}\n' * 100)
        os.write(2, b"\x00" * 200_000)
        return [self.song(1)]

    def do_hang(self, argument: str) -> list[Any]:
        while True:
            time.sleep(60)

    def do_only_jamendo_answers(self, argument: str) -> list[Any]:
        return [self.song(1)] if self.source.startswith("Jamendo") else self.do_hang("")

    def do_only_jamendo_works(self, argument: str) -> list[Any]:
        if self.source.startswith("Jamendo"):
            return [self.song(1)]
        raise RuntimeError("not today")

    def do_freeze(self, argument: str) -> list[Any]:
        """Stops every thread, as a call that keeps the interpreter's lock does."""
        os.kill(os.getpid(), signal.SIGSTOP)
        return []

    def do_fork(self, argument: str) -> list[Any]:
        if (child := os.fork()) == 0:
            time.sleep(300)
            os._exit(0)
        Path(argument).write_text(f"{child} {os.getpid()}")
        os.kill(os.getpid(), signal.SIGSTOP)
        return []

    def do_crash(self, argument: str) -> list[Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return []

    def do_exit(self, argument: str) -> list[Any]:
        sys.exit(0)

    def do_raise(self, argument: str) -> list[Any]:
        raise ValueError("https://user:password@example.org/?key=secret")

    def do_memory(self, argument: str) -> list[Any]:
        kept = [bytearray(64 * 1024**2) for _ in range(64)]
        return [self.song(1, name=str(len(kept)))]

    def do_million(self, argument: str) -> list[Any]:
        return [self.song(1)] * 1_000_000

    def do_same(self, argument: str) -> list[Any]:
        return [self.song(1), self.song(1), self.song(2)]

    def do_flood(self, argument: str) -> list[Any]:
        """Finds our pipe, and writes into it what it likes: as many megabytes as are asked for."""
        megabytes, _, text = argument.partition(" ")
        for number in range(3, 64):
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    for _ in range(int(megabytes)):
                        os.write(number, (text * (1024**2 // len(text))).encode())
                    os.write(number, b"\n")
            except OSError:
                continue
        return [self.song(1)]

    def do_wrong_types(self, argument: str) -> list[Any]:
        class Nasty:
            def __str__(self) -> str:
                raise RuntimeError

        return [
            self.song(1, song_name={"a": "b"}),
            self.song(2, identifier=None),
            self.song(3, identifier="a b\n"),
            None,
            self.song(
                4,
                song_name="Good \x00\u202e one",
                singers=7,
                album=["x"],
                duration_s=float("nan"),
                file_size_bytes="many",
                raw_data="x",
                default_download_headers=[1],
            ),
            self.song(5, ext="exe"),
            self.song(6, download_url="file:///etc/passwd"),
            self.song(7, download_url="http://user:pw@example.org/x.mp3"),
            self.song(8, download_url=Nasty()),
            self.song(9, ext="mflac"),
        ]

    def do_unusable(self, argument: str) -> list[Any]:
        return [
            self.song(1, protocol="HLS"),
            self.song(2, downloaded_contents=b"x" * 100),
            self.song(3, raw_data={"search": {"is_downloadable": False}}),
            self.song(4, raw_data={"search": {"is_downloadable": True}}),
            self.song(5),
        ]

    def do_headers(self, argument: str) -> list[Any]:
        headers = {
            "User-Agent": "a browser",
            "referer": "https://example.org/",
            "Host": "internal",
            "Authorization": "Basic x",
            "origin": "x\r\nInjected: yes",
        }
        cookies = {"session": "abc", "bad": "a;b", "worse": "x\r\ny", "Ä": "1"}
        return [self.song(1, default_download_headers=headers, default_download_cookies=cookies)]

    def do_licence(self, argument: str) -> list[Any]:
        terms = {
            "LicenseShortName": {"value": "CC BY-SA 4.0"},
            "LicenseUrl": {"value": "https://creativecommons.org/licenses/by-sa/4.0"},
        }
        return [self.song(1, raw_data={"search": {"imageinfo": [{"extmetadata": terms}]}})]

    def do_environment(self, argument: str) -> list[Any]:
        limits = Path("/proc/self/limits").read_text()
        memory = next(line for line in limits.splitlines() if line.startswith("Max address space")).split()[3]
        known = [f"{key}={value}" for key, value in os.environ.items()]
        return [self.song(1, name=f"memory={memory} " + " ".join(sorted(known)), album=str(Path.cwd()))]

    def do_cookies(self, argument: str) -> list[Any]:
        return [self.song(1, name=f"cookies {self.cookies}")]

    def do_files(self, argument: str) -> list[Any]:
        for place in (Path.cwd(), Path.home(), Path(os.environ["TMPDIR"]), Path(self.work_dir)):
            closed = place / "closed" / "within"
            closed.mkdir(parents=True)
            (closed / "file").write_bytes(b"x" * 1000)
            (place / "link").symlink_to(argument)
            closed.parent.chmod(0)
        return [self.song(1)]

    def do_deep(self, argument: str) -> list[Any]:
        here = os.open(".", os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        os.fchdir(here)
        os.close(here)
        return [self.song(1)]

    def do_large_file(self, argument: str) -> list[Any]:
        with (Path.cwd() / "large").open("wb") as file:
            file.truncate(1024**3)
        return [self.song(1)]

    def do_network(self, argument: str) -> list[Any]:
        self.logger_handle.error(
            f"{self.source}.get >>> https://example.org/?key=secret (Error: HTTPSConnectionPool: Max retries exceeded "
            'with url: / (Caused by NameResolutionError("x")); status=None)',
            disable_print=True,
        )
        self.logger_handle.error(f"{self.source}._search >>> x on page 1 (Error: 'NoneType' object has no attribute)")
        return []

    def do_refused(self, argument: str) -> list[Any]:
        self.logger_handle.error(f"{self.source}.get >>> https://example.org/ (Error: 403 Client Error; status=403)")
        return []

    def do_nothing(self, argument: str) -> list[Any]:
        self.logger_handle.error(f"{self.source}._search >>> nothing on page 1 (Error: 'songs')")
        return []

    def do_local(self, argument: str) -> list[Any]:
        with socket.create_connection(("127.0.0.1", int(argument)), timeout=2):
            return [self.song(1)]

    def do_address(self, argument: str) -> list[Any]:
        return [self.song(1, name="Rain", ext="wav", download_url=argument)]


class LyricSearchClient:
    def search(self, artist_name: str, track_name: str) -> tuple[dict[str, str], str]:
        raise AssertionError("nobody reads lyrics")


class MusicClientBuilder:
    REGISTERED_MODULES: Mapping[str, type[BaseMusicClient]] = {
        f"{name}MusicClient": type(f"{name}MusicClient", (BaseMusicClient,), {"source": f"{name}MusicClient"})
        for name in ("Jamendo", "FMA", "CCMixter", "WikimediaCommons", "Audius", "Netease", "QQ", "Kuwo", "Migu")
    }


def BuildMusicClient(module_cfg: dict[str, Any]) -> BaseMusicClient:
    settings = dict(module_cfg)
    return MusicClientBuilder.REGISTERED_MODULES[settings.pop("type")](**settings)
