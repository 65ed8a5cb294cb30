"""The person's env file: looked at cheaply, read whole, replaced whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from common.env_file import OLDER_FILE, decoded
from common.errors import ConfigurationError
from common.settings import ENV_FILES, own_file
from console.errors import Refused

MAX_BYTES = 256 * 1024
"""A larger file is none of settings, and its versions would fill the database."""
_HELD = frozenset({errno.EBUSY, errno.EXDEV})
"""What replacing a file answers that is mounted by itself."""

Signature = tuple[str, int, int, int, int]


class EnvStore:
    """The file that the settings are read from, or would be. Methods block."""

    @property
    def path(self) -> Path:
        """Where it lies, absolute, behind links. Raises ConfigurationError where a folder lies in its place."""
        try:
            return (own_file() or Path(ENV_FILES[0])).absolute().resolve()
        except ConfigurationError:
            raise ConfigurationError(
                "The configuration file is gone, or a folder lies in its place. Put the file back; what runs goes on "
                "as it was.",
                code="env-file",
            ) from None

    @property
    def judges_names(self) -> bool:
        """Whether names that nobody knows are refused in it."""
        return self.path.name != OLDER_FILE

    def signature(self) -> Signature | None:
        """What differs when the file was changed; None where there is none."""
        path = self.path
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from None
        return str(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self) -> str | None:
        """Its text; None where there is none. Raises ConfigurationError, which names the file without its folder."""
        path = self.path
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from None
        if len(data) > MAX_BYTES:
            raise ConfigurationError(f"{path.name} is larger than {MAX_BYTES} bytes, so no version of it is kept.")
        return decoded(Path(path.name), data)

    def write(self, text: str, *, instead_of: str | None) -> None:
        """Replace it whole, keeping owner and mode.

        Raises Refused with what to do where that is not allowed, or where the file is not ``instead_of`` any more.
        """
        path = self.path
        if self.read() != instead_of:
            raise Refused(f"{path.name} was changed meanwhile. Look at it again, then apply.", code="config-changed")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            before = path.stat() if instead_of is not None else None
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                if before is not None:
                    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(file.fileno(), before.st_uid, before.st_gid)
                    os.fchmod(file.fileno(), before.st_mode & 0o7777)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise _not_writable(path, error) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path.name} cannot be read ({error.strerror}): allow the user of the console to read it.", code="env-file"
    )


def _not_writable(path: Path, error: OSError) -> Refused:
    why = error.strerror or type(error).__name__
    if error.errno in _HELD:
        why = "it is mounted by itself"
    return Refused(
        f"{path.name} cannot be replaced from here ({why}), so nothing was changed. Allow the user of the console to "
        "write to its folder (in a container: mount that folder writable), or write the text into the file yourself: "
        "it is noticed within seconds.",
        code="config-not-writable",
    )
