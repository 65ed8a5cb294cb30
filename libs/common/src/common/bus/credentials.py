"""Who we are on the bus, and how the connection is kept secret."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult

import nats.errors
from nats.aio.transport import TcpTransport

from common.errors import ConfigurationError
from common.settings import Settings, split_list


class NotEncrypted(nats.errors.Error):
    """The server wants to talk in the clear, where the settings ask for TLS."""

    def __str__(self) -> str:
        return "the server does not offer TLS"


class Upgraded(TcpTransport):
    """The client's connection, of which asyncio is told that it is encrypted now."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __bool__(self) -> bool:
        # One that is false the client replaces by one of its own.
        return True

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        assert self._io_writer is not None
        # The library leaves it out: asyncio would take the end for one of a plain connection and warn of it, and would
        # read on however much waits.
        self._io_writer.transport.get_protocol().connection_made(self._io_writer.transport)


def credentials(settings: Settings) -> dict[str, Any]:
    """The account and the encryption, as arguments of a client's ``connect``.

    Raises :class:`ConfigurationError` when NATS_CA cannot be used.
    """
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    found: dict[str, Any] = {"user": settings.bus_user or None, "password": password}
    encrypted = [url.startswith("tls://") for url in split_list(settings.nats_url)]
    if settings.nats_ca is not None and not all(encrypted):
        raise ConfigurationError(
            "NATS_CA is set, but NATS_URL would connect in the clear: write tls:// in front of the host, or unset "
            "NATS_CA."
        )
    if any(encrypted):
        found["tls"] = context = _context(settings)
        if password is not None and all(encrypted):
            found["password"] = _only_encrypted(password, context)
    return found


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        # Without an authority of our own those of the system are asked.
        return ssl.create_default_context(cafile=str(settings.nats_ca) if settings.nats_ca else None)
    except ssl.SSLError:
        raise ConfigurationError(
            "NATS_CA is not a certificate: it must be the file of the authority that signed the bus's, in PEM."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"The file of NATS_CA cannot be read ({error.strerror}): name another.") from None


def _only_encrypted(password: str, context: ssl.SSLContext) -> Callable[[], str]:
    """The password, given away only after a handshake: the client would follow a server that says it needs none."""
    used = 0

    def give() -> str:
        nonlocal used
        handshakes = context.session_stats()["connect_good"]
        if handshakes <= used:
            raise NotEncrypted
        used = handshakes
        return password

    return give
