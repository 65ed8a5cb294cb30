"""Looking at the object store now and then, so that people see what is wrong with it before a job does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from common.errors import MusicCloudError
from common.storage.objects import NOT_CONFIGURED
from common.storage.s3 import S3Storage
from common.telemetry import get_logger
from uploader.errors import STORE_LOOK_SECONDS

_SWEEP_SECONDS = 3600.0


class StoreWatch:
    """What is known of the store; also ends uploads that a killed process left unfinished."""

    def __init__(self, *, store: S3Storage | None, abandon_seconds: float) -> None:
        self._store = store
        self._abandon = abandon_seconds
        self._swept = -_SWEEP_SECONDS
        self._state: dict[str, Any] = {"configured": store is not None, "usable": None, "message": ""}
        if store is None:
            self._state = {"configured": False, "usable": False, "message": NOT_CONFIGURED}

    @property
    def state(self) -> dict[str, Any]:
        """``configured``, ``usable`` (None: not asked yet) and a ``message`` for people."""
        return self._state

    async def run(self, stop: asyncio.Event) -> None:
        """Look until ``stop``."""
        if self._store is None:
            get_logger().info("idle", reason=NOT_CONFIGURED)
            await stop.wait()
            return
        while not stop.is_set():
            self._state = await asyncio.to_thread(self._look, self._store)
            waiting = asyncio.create_task(stop.wait())
            await asyncio.wait({waiting}, timeout=STORE_LOOK_SECONDS)
            waiting.cancel()

    def _look(self, store: S3Storage) -> dict[str, Any]:
        try:
            store.check()
            if time.monotonic() - self._swept >= _SWEEP_SECONDS:
                if ended := store.abort_unfinished(older_than=self._abandon):
                    get_logger().info("ended unfinished uploads", count=ended)
                self._swept = time.monotonic()
        except MusicCloudError as error:
            get_logger().warning("object store", code=error.code, reason=error.message)
            return {"configured": True, "usable": False, "message": error.message}
        return {"configured": True, "usable": True, "message": ""}
