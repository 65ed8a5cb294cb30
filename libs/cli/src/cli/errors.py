"""Errors of the command line, and the exit status of each outcome."""

from __future__ import annotations

from enum import IntEnum

from common.errors import MusicCloudError


class Exit(IntEnum):
    """Exit statuses; part of the command line's contract."""

    OK = 0
    FAILED = 1
    """The command or the job failed, or the job was canceled."""
    USAGE = 2
    """Wrong arguments or settings."""
    WITH_ERRORS = 3
    """The job ended, and some of its items failed."""
    UNREACHABLE = 4
    """The console does not answer, or refuses the credential."""


class ConsoleUnreachable(MusicCloudError):
    """The console does not answer."""

    code = "console-unreachable"


class ConsoleRefused(MusicCloudError):
    """The console does not accept the credential."""

    code = "console-refused"


class RequestRejected(MusicCloudError):
    """The console answered that it will not do this; the message is its own."""

    code = "request-rejected"
