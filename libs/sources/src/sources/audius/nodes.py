"""Which node of the network is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from common.errors import MusicCloudError, PermanentError

from ..api.client import ApiClient
from ..api.fields import Answer
from ..urls import normalize
from .answers import Many

APP = ("app_name", "music-cloud")
"""Asked of every program; nothing depends on it."""
MAX_NODES = 50
NODE_TRIES = 3
"""Nodes that one request asks in turn, where the first ones are away."""
NODES_SECONDS = 3600.0
_NO_LIST = frozenset({"answer-not-json", "answer-malformed", "source-file-missing"})
_OF_NODE = frozenset({"address-refused", "certificate-invalid", "answer-malformed", "access-refused"})
A = TypeVar("A", bound=Answer)


class Nodes:
    """The nodes to ask, the one that answered last first. Safe in threads."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._nodes: list[str] = []
        self._until = 0.0
        self._lock = threading.Lock()

    def choose(self) -> str:
        """The node to ask; the list is read when there is none, or it is old."""
        with self._lock:
            if not self._nodes or time.monotonic() > self._until:
                self._nodes = self._usable(self._listed()) or [self._client.base_url]
                self._until = time.monotonic() + NODES_SECONDS
            return self._nodes[0]

    def get(self, model: type[A], path: str, query: Sequence[tuple[str, str]] = ()) -> A:
        """Ask one node, and up to two others while they are away. Raises as the client does."""
        for left in reversed(range(NODE_TRIES)):
            node = self.choose()
            try:
                return self._client.get(model, path, [*query, APP], base=node)
            except MusicCloudError as error:
                if (isinstance(error, PermanentError) and error.code not in _OF_NODE) or not self._drop(node, left):
                    raise
        raise AssertionError("unreachable")

    def _listed(self) -> list[Any]:
        """The nodes that the root lists; none where it is a gateway to them instead, and answers itself."""
        try:
            return self._client.get(Many, "/").data
        except MusicCloudError as error:
            if error.code in _NO_LIST:
                return []
            raise

    def _drop(self, node: str, left: int) -> bool:
        """Ask another one from now on. False where there is none, or nobody is to be asked any more."""
        with self._lock:
            self._nodes = [other for other in self._nodes if other != node]
            return bool(self._nodes) and left > 0

    def _usable(self, listed: list[Any]) -> list[str]:
        plain = self._client.origin.scheme == "http"
        nodes: list[str] = []
        for one in listed[:MAX_NODES]:
            try:
                url = normalize(one).rstrip("/") if isinstance(one, str) else ""
            except PermanentError:
                continue
            if url.startswith("https://") or (plain and url):
                nodes.append(url)
        return nodes
