"""Getting a pack whole: resumed where it broke off, and believed only when its digest is its name."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from mirror.folder import disk_full, explained
from mirror.offer import Offer
from mirror.problems import Refused
from mirror.progress import Progress, megabytes
from mirror.remote import Body, Remote

_AT_ONCE = 1 << 20


class Incoming:
    """The folder of packs on their way; what came of one stays there until it is complete, or another is wanted."""

    def __init__(self, folder: Path, *, at_most: int) -> None:
        """``at_most``: bytes of a pack that are taken."""
        self._folder = folder
        self._at_most = at_most

    def path(self, pack_id: str) -> Path:
        """Where a pack lies, or will."""
        return self._folder / pack_id.removeprefix("sha256:")

    def discard(self, pack_id: str) -> None:
        """Remove a pack."""
        with explained():
            _remove(self.path(pack_id))

    def size(self, pack_id: str) -> int:
        """Bytes of it that are here."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(pack_id).stat().st_size
        return 0

    def get(self, remote: Remote, offer: Offer, *, progress: Progress) -> Path:
        """The whole pack. Raises PlaceExpired, Unavailable (what came is kept then), Refused, LocalProblem."""
        path, pack_id = self.path(offer.pack_id), offer.pack_id
        if offer.size is not None and offer.size > self._at_most:
            raise _too_large(offer.size, self._at_most)
        self._only(path)
        start, hash = self._known(path)
        if start and f"sha256:{hash.hexdigest()}" == pack_id:
            return path
        with explained(), remote.pack(offer.url, start=start, validator=_validator(path)) as body:
            if body.start != start:
                start, hash = 0, hashlib.sha256()
            total = body.total if offer.size is None else offer.size
            self._check_room(path.parent, body, total)
            progress.step("downloading", total)
            progress.advance(start)
            size = self._write(path, body, total, hash, progress)
        if f"sha256:{hash.hexdigest()}" == pack_id:
            return path
        self.discard(pack_id)
        if start:
            # What was here from before was not the beginning of this pack.
            return self.get(remote, offer, progress=progress)
        raise Refused(
            "pack-digest",
            f"The {megabytes(size)} that came are not the pack that the server named: cut off or changed on the way.",
        )

    def _write(self, path: Path, body: Body, total: int | None, hash: hashlib._Hash, progress: Progress) -> int:
        size = body.start
        most = self._at_most if total is None else total
        try:
            with path.open("r+b" if body.start else "wb") as file:
                file.truncate(body.start)
                file.seek(body.start)
                _note(path).write_text(body.validator or "", "utf-8")
                for chunk in body.chunks:
                    size += len(chunk)
                    if size > most:
                        raise _too_large(size, most)
                    file.write(chunk)
                    hash.update(chunk)
                    progress.advance(len(chunk))
        except (Refused, OSError):
            # Neither what is refused nor what fills the disk is worth keeping; the last bytes are written at the close.
            _remove(path)
            raise
        return size

    def _check_room(self, folder: Path, body: Body, total: int | None) -> None:
        if total is None:
            return
        if total > self._at_most or (body.total is not None and body.total > total):
            raise _too_large(max(total, body.total or 0), min(total, self._at_most))
        if total - body.start > shutil.disk_usage(folder).free:
            raise disk_full()

    def _known(self, path: Path) -> tuple[int, hashlib._Hash]:
        """(bytes that are here, their digest so far)."""
        hash, size = hashlib.sha256(), 0
        with explained(), contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            while data := file.read(_AT_ONCE):
                hash.update(data)
                size += len(data)
        return size, hash

    def _only(self, path: Path) -> None:
        """Remove all packs but this one: nobody will ask for them again."""
        with explained():
            for entry in self._folder.iterdir():
                if entry not in (path, _note(path)):
                    entry.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    """Holds the entity tag of the pack that lies beside it."""
    return path.with_name(f"{path.name}.etag")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _note(path).unlink(missing_ok=True)


def _validator(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return _note(path).read_text("utf-8") or None
    return None


def _too_large(size: int, most: int) -> Refused:
    return Refused(
        "pack-too-large",
        f"The pack is larger ({megabytes(size)} or more) than was announced or is allowed ({megabytes(most)}). "
        "--max-pack-size allows more.",
    )
