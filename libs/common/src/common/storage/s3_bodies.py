"""The bodies of what is sent to an S3 server and of what comes from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from urllib3.exceptions import HTTPError

from common.errors import TransientError
from common.storage.port import Canceled, Progress, TransferCanceled


class Sent:
    """A file whose reading is progress, and can be told to stop."""

    def __init__(
        self, file: BinaryIO, progress: Progress | None, canceled: Canceled | None, *, before: int = 0
    ) -> None:
        self._file = file
        self._progress = progress
        self._canceled = canceled
        self._before = before

    def read(self, amount: int = -1) -> bytes:
        if self._canceled is not None and self._canceled():
            raise TransferCanceled("The transfer was told to stop.")
        data = self._file.read(amount)
        if self._progress is not None:
            self._progress(self._before + self._file.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Received:
    """An object that is being read: whole, or one of our errors says that it is not."""

    def __init__(
        self, body: Any, *, size: int | None, errors: Callable[[], AbstractContextManager[None]], endpoint: str
    ) -> None:
        """``body``: as boto3 gives it; ``size``: what the server announced; ``errors`` makes boto3's errors ours."""
        self._body = body
        self._left = size
        self._errors = errors
        self._endpoint = endpoint

    def read(self, amount: int = -1, /) -> bytes:
        """So many bytes, fewer only at the end."""
        try:
            with self._errors():
                data: bytes = self._body.read(amount if amount >= 0 else None)
        except HTTPError as error:
            # Some that befall an open connection, as in TLS, boto3 lets through.
            raise self._broken(type(error).__name__) from None
        if self._left is not None:
            self._left -= len(data)
            # A connection that ends early looks like the end of the file.
            if self._left > 0 and (amount < 0 or len(data) < amount):
                raise self._broken(f"{self._left} bytes are missing")
        return data

    def close(self) -> None:
        self._body.close()

    def _broken(self, why: str) -> TransientError:
        return TransientError(f"The transfer from {self._endpoint} broke off ({why}).", code="object-store-broke")
