"""Runs the library, in a process of its own: requests in and answers out, one line of JSON each.

Started by path, with the interpreter that has musicdl: nothing but the standard library and musicdl
may be imported here. Nobody believes what it answers; see ``answers``.
"""

from __future__ import annotations

import ipaddress
import json
import os
import queue
import re
import resource
import shutil
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

MAX_FILE = 64 * 1024**2
"""Bytes: it keeps its search results and a log in files, never music."""
GRACE = 5
"""Seconds before the deadline at which what is there is answered, and after it at which the kernel ends us."""
WORK = "work"
REQUEST_TIMEOUT = (10, 20)
PLAIN = (
    "identifier", "song_name", "singers", "album", "ext", "file_size_bytes", "duration_s", "download_url", "protocol"
)  # fmt: skip
_NETWORK = re.compile(
    r"Max retries exceeded|NameResolution|NewConnection|Connect(ion)?(Error|Timeout)|ReadTimeout|timed out|SSLError"
)
_REQUEST = re.compile(r"\.(get|post) >>> ")
_KEY_ERROR = re.compile(r"\(Error: '[^']{1,80}'\)$")
"""How the library says that an answer lacks a part, as those do that have no results."""
_LISTED_NAME = re.compile(r"\d{4}(?:-\d\d){5} (.+)$")
"""How the library names the folder of a list: the time, and the list's name."""


class Notes:
    """Takes the place of the library's logger, which is all that tells of a failed request."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def __deepcopy__(self, memo: object) -> Notes:
        return self

    def error(self, message: object, *rest: object, **options: object) -> None:
        if len(self.errors) < 100:
            self.errors.append(str(message)[-2000:])

    def info(self, *message: object, **options: object) -> None:
        """Nobody reads it."""

    debug = warning = info

    @property
    def failure(self) -> str | None:
        """What went wrong, where it is not only that nothing was found."""
        told = [error for error in self.errors if not _KEY_ERROR.search(error)]
        if any(_NETWORK.search(error) for error in told):
            return "network"
        if any(_REQUEST.search(error) for error in told):
            return "refused"
        return "unreadable" if told else None


def limit(megabytes: int) -> None:
    """Limits that whatever we start inherits."""
    os.umask(0o077)
    memory = megabytes * 1024**2
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def take_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Our pipes, under descriptors that no child inherits; the library prints into nothing."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def end() -> None:
    """Ends this process and all of its group."""
    os.killpg(0, signal.SIGKILL)


def read_requests(stream: IO[bytes], waiting: queue.Queue[bytes]) -> None:
    """In a thread: when the other side is gone, so are we, whatever the library is doing."""
    for line in stream:
        waiting.put(line)
    end()


def guard_network(allow_private: bool) -> None:
    """Requests of the library end in time, check certificates, and do not reach into the local network."""
    import requests  # type: ignore[import-untyped, unused-ignore]

    ask = requests.Session.request

    def patient(self: Any, method: str, url: str, *rest: Any, **options: Any) -> Any:
        if options.get("timeout") is None:
            options["timeout"] = REQUEST_TIMEOUT
        options["verify"] = True
        return ask(self, method, url, *rest, **options)

    requests.Session.request = patient
    if allow_private:
        return
    look_up = socket.getaddrinfo

    def public_only(host: Any, *rest: Any, **options: Any) -> Any:
        found = look_up(host, *rest, **options)
        public = [one for one in found if ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_global]
        if not public:
            raise socket.gaierror(socket.EAI_NONAME, "an address of the local network")
        return public

    socket.getaddrinfo = public_only


class UnknownClient(Exception):
    """This version of the library does not have it."""


class Library:
    """The clients of musicdl. ``cookies``: for those that must not use what the library brings along.

    Raises whatever musicdl raises.
    """

    def __init__(self) -> None:
        from musicdl.modules import (  # type: ignore[import-not-found, unused-ignore]
            BuildMusicClient,
            LyricSearchClient,
            MusicClientBuilder,
        )
        from rich.progress import Progress  # type: ignore[import-not-found, unused-ignore]

        # Lyrics, which nobody here reads, would be asked for at other servers, for each result.
        LyricSearchClient.search = lambda *rest, **options: ({}, "NULL")
        self._build = BuildMusicClient
        self._progress = Progress
        self.names = sorted(str(name) for name in MusicClientBuilder.REGISTERED_MODULES)

    def search(self, name: str, *, cookies: dict[str, str], words: str, limit: int) -> dict[str, Any]:
        client, notes = self._client(name, cookies, limit)
        # Never started, so never drawn; its own would be, one at a time in all threads.
        progress = self._progress(disable=True)
        found = client.search(
            keyword=words,
            num_threadings=1,
            main_process_context=progress,
            main_progress_id=progress.add_task("", total=0),
            main_progress_lock=threading.Lock(),
        )
        return self._answer(client, found, notes, limit)

    def playlist(self, name: str, *, cookies: dict[str, str], url: str, limit: int) -> dict[str, Any]:
        client, notes = self._client(name, cookies, 1)
        return self._answer(client, client.parseplaylist(url), notes, limit)

    def _client(self, name: str, cookies: dict[str, str], limit: int) -> tuple[Any, Notes]:
        if name not in self.names:
            raise UnknownClient
        notes = Notes()
        given = {f"default_{kind}_cookies": dict(cookies) for kind in ("search", "parse", "download")}
        settings = {
            "type": name,
            "search_size_per_source": limit,
            "search_size_per_page": limit,
            "max_retries": 1,
            "disable_print": True,
            "work_dir": str(Path.cwd() / WORK),
            "logger_handle": notes,
            **(given if cookies else {}),
        }
        return self._build(module_cfg=settings), notes

    def _answer(self, client: Any, found: Any, notes: Notes, limit: int) -> dict[str, Any]:
        found = list(found or ())
        answer: dict[str, Any] = {"songs": [described(client, one) for one in found[:limit]], "total": len(found)}
        if found and (named := _LISTED_NAME.search(str(getattr(found[0], "work_dir", None) or ""))):
            answer["name"] = named[1]
        if not found and (failure := notes.failure) is not None:
            answer["error"] = failure
        return answer


def described(client: Any, song: Any) -> dict[str, Any]:
    """What is passed on of a SongInfo: a few plain values."""
    told: dict[str, Any] = {name: plain(getattr(song, name, None)) for name in PLAIN}
    told["contents"] = bool(getattr(song, "downloaded_contents", None))
    told["headers"] = texts(
        getattr(song, "default_download_headers", None) or getattr(client, "default_download_headers", None)
    )
    told["cookies"] = texts(getattr(song, "default_download_cookies", None))
    raw = getattr(song, "raw_data", None)
    asked = raw.get("search") if isinstance(raw, dict) else None
    page = raw.get("download") if isinstance(raw, dict) else None
    if isinstance(asked, dict):
        told["is_downloadable"] = plain(asked.get("is_downloadable"))
        image = asked.get("imageinfo")
        image = image[0] if isinstance(image, list) and image and isinstance(image[0], dict) else {}
        more = image.get("extmetadata")
        if isinstance(more, dict):
            told["licence"], told["licence_url"] = (
                plain(one.get("value") if isinstance(one := more.get(key), dict) else one)
                for key in ("LicenseShortName", "LicenseUrl")
            )
    if isinstance(page, dict) and isinstance(page.get("licenses"), list) and page["licenses"]:
        told["licence"] = plain(page["licenses"][0])
    return told


def plain(value: object) -> object:
    if isinstance(value, str):
        return value[:4096]
    return value if value is None or isinstance(value, (bool, int, float)) else None


def texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key)[:100]: str(one)[:4096] for key, one in list(value.items())[:40]}


class Worker:
    """Answers requests until the other side is gone."""

    def __init__(self, library: Library, answers: IO[bytes]) -> None:
        self._library = library
        self._answers = answers
        self._spent = False

    def tell(self, message: dict[str, Any]) -> None:
        self._answers.write(json.dumps(message, ensure_ascii=True).encode() + b"\n")
        self._answers.flush()

    def serve(self, line: bytes) -> None:
        """Answers one request. Whatever a thread still does after its time makes this process the last one's."""
        request = json.loads(line)
        seconds = int(request["seconds"])
        # Not left to Python: a library that hangs with the interpreter's lock held ends too.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds + GRACE)
        pool = ThreadPoolExecutor(max_workers=len(request["clients"]))
        running = {pool.submit(self._one, request, name): name for name in request["clients"]}
        done, late = wait(running, timeout=max(1, seconds - GRACE))
        answers = {running[one]: one.result() for one in done}
        answers |= {running[one]: {"error": "late"} for one in late}
        self.tell({"id": request["id"], "answers": answers, "spent": bool(late)})
        signal.alarm(0)
        if late:
            end()
        pool.shutdown()
        shutil.rmtree(WORK, ignore_errors=True)

    def _one(self, request: dict[str, Any], name: str) -> dict[str, Any]:
        cookies, limit = request["cookies"].get(name, {}), int(request["limit"])
        try:
            if request["do"] == "playlist":
                return self._library.playlist(name, cookies=cookies, url=request["url"], limit=limit)
            return self._library.search(name, cookies=cookies, words=request["words"], limit=limit)
        except MemoryError:
            return {"error": "memory"}
        except UnknownClient:
            return {"error": "unknown-client"}
        except NotImplementedError:
            return {"error": "not-offered"}
        except Exception as error:  # a library of anybody's: it is the item that fails
            network = _NETWORK.search(f"{type(error).__name__}: {error}"[:4000])
            return {"error": "network" if network else "failed", "kind": type(error).__name__[:60]}


def main() -> int:
    if sys.argv[1:] == ["version"]:
        try:
            print(json.dumps({"version": version("musicdl")}))
        except PackageNotFoundError:
            print(json.dumps({"version": None}))
        return 0
    if os.getpgrp() != os.getpid():
        # Started by hand: the group that we end must be our own.
        os.setpgid(0, 0)
    megabytes, allow_private, idle_seconds = int(sys.argv[1]), sys.argv[2] == "private", int(sys.argv[3])
    limit(megabytes)
    requests, answers = take_pipes()
    waiting: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=read_requests, args=(requests, waiting), daemon=True).start()
    library = Library()
    guard_network(allow_private)
    worker = Worker(library, answers)
    worker.tell({"version": version("musicdl"), "clients": library.names})
    try:
        while True:
            worker.serve(waiting.get(timeout=idle_seconds))
    except queue.Empty:
        end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
