"""Following the live settings: pushed when they change, read again after a reconnection, judged before use."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from common.bus.connection import Bus
from common.bus.streams import JOBS_STREAM
from common.contracts.envelope import UndecodableMessage, decode
from common.contracts.jobs import JOBS_BUCKET
from common.contracts.settings import LIVE_SETTINGS, SETTINGS_KEY, LiveSettings
from common.env_file import words_of
from common.errors import BusUnavailable, ConfigurationError, MusicCloudError
from common.settings import Settings, own_values
from common.telemetry import get_logger

SETTINGS_SUBJECT = f"$KV.{JOBS_BUCKET}.{SETTINGS_KEY}"
_LOOK_EVERY = 30.0
"""Seconds; a push can be lost with a connection."""
_RETRY = 1.0

Apply = Callable[[Any], None]


class SettingsFollower:
    """Applies what a service registered, whenever the console announces other settings."""

    def __init__(self, bus: Bus, settings: Settings, *, environment: Mapping[str, str] | None = None) -> None:
        """``environment``: the process's own, which wins over every file."""
        self._bus = bus
        self._settings = settings
        given = os.environ if environment is None else environment
        self._environment = frozenset(name.upper() for name, value in given.items() if value)
        self._applies: dict[str, Apply] = {}
        self._refused: dict[str, str] = {}
        self._own = self._read_own({})
        self._started_with = dict(self._own)
        self._sequence = 0
        self._hint = asyncio.Event()
        self._subscription: Subscription | None = None
        self._following: asyncio.Task[None] | None = None
        self.revision = 0
        """The version that runs; 0 before one was announced."""
        self.on_change: Callable[[], None] = lambda: None

    def on_setting(self, name: str, apply: Apply) -> None:
        """Call ``apply`` with the checked value whenever it changes. It may refuse it with a ValueError."""
        if name not in LIVE_SETTINGS:
            raise ValueError(f"{name} is no live setting")
        self._applies[name] = apply

    def state(self) -> dict[str, Any]:
        """What people are told of it: names and reasons, never a value."""
        own = {name.upper() for name in type(self._settings).model_fields}
        changed = {
            name
            for name in self._own.keys() | self._started_with.keys()
            if self._own.get(name, "") != self._started_with.get(name, "")
        }
        return {
            "revision": self.revision,
            "live": sorted(self._applies),
            "from_environment": sorted(self._environment & self._applies.keys()),
            "refused": dict(sorted(self._refused.items())),
            "restart_for": sorted((changed & own) - self._applies.keys() - self._environment),
        }

    async def start(self) -> None:
        """Take what was announced last, and follow it while the bus is open. Raises BusUnavailable."""
        if self._subscription is None:
            self._subscription = await self._bus.nc.subscribe(SETTINGS_SUBJECT, cb=self._pushed)
            self._bus.on_reconnect(self._reconnected)
        await self.refresh()
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="settings")

    async def refresh(self) -> None:
        """Read the entry, and apply it if it is a new one. Raises BusUnavailable."""
        stored = await self._bus.last(JOBS_STREAM, SETTINGS_SUBJECT)
        if stored is None or stored.sequence == self._sequence:
            return
        self._sequence = stored.sequence
        try:
            announced = decode(stored.data, LiveSettings).data
        except UndecodableMessage as error:
            get_logger().error("the announced settings cannot be read; the old ones stay", reason=str(error))
            return
        # In a thread: a file on a network share can take its time.
        self._own = await asyncio.to_thread(self._read_own, self._own)
        self._refused = {}
        for name in sorted(self._applies.keys() - self._environment):
            self._take(name, announced.values.get(name, self._own.get(name, "")))
        self.revision = announced.revision
        self.on_change()

    def _take(self, name: str, text: str) -> None:
        field = name.lower()
        before = getattr(self._settings, field)
        try:
            value = _checked(self._settings, field, text)
            if value == before:
                return
            self._applies[name](value)
        except (ValueError, MusicCloudError) as error:
            words = error.message if isinstance(error, MusicCloudError) else _words(error)
            get_logger().error("an announced setting is refused; the old value stays", setting=name, reason=words)
            self._refused[name] = words
            return
        setattr(self._settings, field, value)
        get_logger().info("a setting has changed", setting=name, value=value)

    def _read_own(self, before: Mapping[str, str]) -> dict[str, str]:
        """The env file as it is now; ``before`` where it cannot be used."""
        try:
            return own_values()
        except (ConfigurationError, OSError):
            return dict(before)

    async def _follow(self) -> None:
        said = ""
        while not self._bus.nc.is_closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), _LOOK_EVERY)
            self._hint.clear()
            try:
                await self.refresh()
            except BusUnavailable as error:
                if error.message != said and not self._bus.nc.is_closed:
                    get_logger().warning("live settings not read", reason=error.message)
                said = error.message
                self._hint.set()
                await asyncio.sleep(_RETRY)
            else:
                said = ""

    async def _pushed(self, _: Msg) -> None:
        self._hint.set()

    async def _reconnected(self) -> None:
        self._hint.set()


def _checked(settings: Settings, field: str, text: str) -> Any:
    """The value that ``text`` means for one setting, judged as at the start. Raises ValueError."""
    model = type(settings)
    if not text:
        return model.model_fields[field].get_default(call_default_factory=True)
    judged = model.__pydantic_validator__.validate_assignment(settings.model_copy(), field, text)
    return getattr(judged, field)


def _words(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return words_of(error.errors(include_url=False, include_input=False, include_context=False)[0])
    return str(error)
