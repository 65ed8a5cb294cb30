"""The errors that everyone shares. The type of an error chooses what happens to the item.

Each carries a stable ``code`` and a sentence that says what to do; neither ever holds a secret
or a path of the machine.
"""

from __future__ import annotations

from common.contracts.status import Reason


class MusicCloudError(Exception):
    """Base of all expected errors.

    ``code`` is stable (lower case, hyphens) and is what programs compare; the message is for people.
    """

    code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    @property
    def reason(self) -> Reason:
        return Reason(code=self.code, message=self.message)


class TransientError(MusicCloudError):
    """It may work later: the item is tried again, and loses a try."""

    code = "transient"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        """``retry_after``: seconds that the other side asked us to wait; believed."""
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Waiting(MusicCloudError):
    """One of the servers that give an item is asked for nothing now: the item is set aside, and loses no try."""

    code = "server-waiting"

    def __init__(self, message: str, *, code: str | None = None, seconds: float) -> None:
        """``seconds``: until the server is asked again."""
        super().__init__(message, code=code)
        self.seconds = seconds


class Unreachable(MusicCloudError):
    """A server has not answered for so long that its items no longer wait: they fail, and a later job asks again."""

    code = "server-unreachable"


class PermanentError(MusicCloudError):
    """It will not work however often it is tried: the item is parked with this reason."""

    code = "permanent"


class DependencyDown(MusicCloudError):
    """Something the whole lane needs is not there: the lane waits, and no item loses a try."""

    code = "dependency-down"

    def __init__(self, message: str, *, code: str | None = None, retry_after: float = 10.0) -> None:
        """``retry_after``: seconds until the dependency is asked again."""
        super().__init__(message, code=code)
        self.retry_after = retry_after


class ConfigurationError(MusicCloudError):
    """The settings do not let this service start; the message says which to change and how."""

    code = "configuration"

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each thing that is wrong."""
        return (self.message,)


class DatabaseDown(DependencyDown):
    """The service's own database cannot be used now; what was to be done with it is done again."""

    code = "database-unusable"


class DatabaseUnreadable(ConfigurationError):
    """The database's file is damaged, or no database."""

    code = "database-unreadable"


class BusUnavailable(MusicCloudError):
    """The bus did not answer in time."""

    code = "bus-unavailable"
