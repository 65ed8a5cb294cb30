"""A second process that decodes facts while this one reads and writes: of Python's threads, one runs at a time.

It gets messages and gives back rows, over a socket that ends with either side: however this process ends, that one
does too. It knows nothing of the bus or the database, so that one that dies has lost nothing: what it was asked is
decoded here.
"""

from __future__ import annotations

import marshal
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from common.telemetry import get_logger
from exporter.service.projection import Batch, StoredMessage, read_batch

_PATIENCE = 60
"""Seconds without a byte; one batch takes about one. Longer means that the process hangs."""
_LENGTH = struct.Struct(">Q")
_COMMAND = (sys.executable, "-c", "from exporter.adapters.decoder import main; main()")


class Decoder:
    """One such process, started with the first messages. Where it cannot start or dies, all is decoded here.

    Use it from one thread at a time, but for ``close``.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._usable = True
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def decode(self, messages: Sequence[StoredMessage]) -> Batch:
        """The same as ``read_batch`` gives."""
        if self._usable:
            try:
                return self._ask(messages)
            except (OSError, EOFError, ValueError) as error:
                if self._usable:
                    get_logger().warning("facts are decoded without a second process", reason=type(error).__name__)
                self.close()
        return read_batch(messages)

    def close(self) -> None:
        """End the process. A thread that waits for it decodes here what it asked for."""
        with self._lock:
            self._usable = False
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if self._socket is not None:
                self._socket.close()

    def _ask(self, messages: Sequence[StoredMessage]) -> Batch:
        with self._lock:
            if self._usable and self._socket is None:
                self._start()
        if self._socket is None:
            raise EOFError
        _send(self._socket, [(message.subject, message.sequence, message.data) for message in messages])
        return Batch.unpacked(_receive(self._socket))

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # The kernel's own timeouts: with those of Python a large message is many calls, and after each of them
            # this thread waits for the interpreter.
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", _PATIENCE, 0))
            # In a group of its own: what a terminal sends to end this process is not for that one.
            self._process = subprocess.Popen(
                _COMMAND, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
            )


class _Message(NamedTuple):
    subject: str
    sequence: int
    data: bytes


def main() -> None:
    """The process: lists of messages in, packed batches out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as there:
        try:
            while True:
                _send(there, read_batch([_Message(*message) for message in _receive(there)]).packed())
        except (OSError, EOFError):
            return


def _send(there: socket.socket, value: Any) -> None:
    data = marshal.dumps(value)
    there.sendall(_LENGTH.pack(len(data)))
    there.sendall(data)


def _receive(there: socket.socket) -> Any:
    """Both ends are this program: what comes is taken as it is. Raises EOFError when the other side is gone."""
    (length,) = _LENGTH.unpack(_exactly(there, _LENGTH.size))
    return marshal.loads(_exactly(there, length))  # noqa: S302


def _exactly(there: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        count = there.recv_into(rest, len(rest), socket.MSG_WAITALL)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data
