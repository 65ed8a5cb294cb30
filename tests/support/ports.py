"""Ports for servers that must know each other's before they start."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds at this moment, each another one."""
    with contextlib.ExitStack() as open_sockets:
        probes = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port on which nobody answers, and which nobody is given, but which a server of ours may take and leave."""
    with socket.socket() as holder:
        # With this, Linux lets others who say the same bind it too, as long as none of them listens.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
