"""Which TCP ports are free on this machine."""

from __future__ import annotations

import errno
import socket

from common.errors import ConfigurationError


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises :class:`ConfigurationError` if the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: an ended connection that lingers does not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise ConfigurationError(f"Nothing can listen on {host}:{port}: {error.strerror}.") from None
    return True


def pick(host: str, wanted: int, *, taken: set[int]) -> int:
    """``wanted`` if it is free, else a free port; added to ``taken`` and not among them before."""
    if wanted not in taken and wanted and is_free(host, wanted):
        taken.add(wanted)
        return wanted
    while True:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port
