"""What a service can be asked over the bus: it shows up in ``nats micro ls``, and any copy answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import nats.micro
from nats.micro.request import Request

from common.bus import Bus
from common.errors import MusicCloudError
from common.telemetry import get_logger

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""From the question to the answer, both JSON objects. A MusicCloudError is told to whoever asked."""


def question_subject(service: str, name: str) -> str:
    """Where any copy of ``service`` is asked for ``name``."""
    return f"svc.{service}.{name}"


class Questions:
    """The endpoints of one process."""

    def __init__(self, *, bus: Bus, service: str, instance: str, version: str) -> None:
        self._bus = bus
        self._service = service
        self._instance = instance
        self._version = version
        self._answers: dict[str, Answer] = {}

    def add(self, name: str, answer: Answer) -> None:
        """Answer ``name`` from the moment that :meth:`open` is called."""
        self._answers[name] = answer

    async def open(self, *, state: Callable[[], bytes]) -> None:
        """Begin to answer; ``state`` is what this very process says of itself."""
        service = await nats.micro.add_service(
            self._bus.nc,
            name=self._service,
            version=self._version,
            description=f"Music Cloud {self._service}",
            metadata={"instance": self._instance},
        )

        async def tell(request: Request) -> None:
            await request.respond(state())

        await service.add_endpoint(name="state", handler=tell, subject=f"svc.{self._service}.{self._instance}.state")
        for name, answer in self._answers.items():
            await service.add_endpoint(
                name=name, handler=_handler(answer), subject=question_subject(self._service, name)
            )


def _handler(answer: Answer) -> Callable[[Request], Awaitable[None]]:
    async def handle(request: Request) -> None:
        try:
            question = json.loads(request.data or b"{}")
            if not isinstance(question, dict):
                raise TypeError
        except (ValueError, TypeError, RecursionError):
            await request.respond_error("question-unreadable", "A question is a JSON object.")
            return
        try:
            told = await answer(question)
        except MusicCloudError as error:
            await request.respond_error(error.code, error.message)
        except Exception as error:  # a bug must not leave whoever asked without an answer
            get_logger().error("a question failed", exc_info=error)
            await request.respond_error("internal-error", "The service failed to answer; its log says why.")
        else:
            await request.respond(json.dumps(told).encode())

    return handle
