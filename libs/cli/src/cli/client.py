"""The console's API, as the command line uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from cli.errors import ConsoleRefused, ConsoleUnreachable, RequestRejected

_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
Json = dict[str, Any]


class ConsoleClient:
    """A client of one console. ``credential`` is sent as a bearer token."""

    def __init__(self, *, url: str, credential: str | None, timeout: httpx.Timeout = _TIMEOUT) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        # Never through a proxy of the environment: the credential is for the console alone.
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)
        except (httpx.InvalidURL, ValueError):
            raise _no_address(url) from None

    def __enter__(self) -> ConsoleClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def create_job(self, job_type: str, *, sources: list[str] | None = None) -> Json:
        """Ask for a job; asking twice for the same gives the same job."""
        body: Json = {"job_type": job_type}
        if sources:
            body["sources"] = sources
        return self._ask("POST", "/api/jobs", json=body)

    def jobs(self, *, limit: int = 20) -> list[Json]:
        """The newest jobs."""
        return list(self._ask("GET", "/api/jobs", params={"limit": limit})["items"])

    def job(self, job_id: int) -> Json:
        """One job with its stages."""
        return self._ask("GET", f"/api/jobs/{job_id}")

    def items(self, job_id: int, *, state: str | None = None, stage: str | None = None) -> Iterator[Json]:
        """The items of a job, page after page; of one state or stage, or all."""
        wanted = {"state": state, "stage": stage, "limit": "500"}
        params = {name: value for name, value in wanted.items() if value is not None}
        return self._pages(f"/api/jobs/{job_id}/items", params)

    def waiting(self, job_id: int) -> list[Json]:
        """Some items of a job that were tried and wait to be tried again."""
        params = {"state": ["queued", "interrupted"], "limit": 50}
        found = self._ask("GET", f"/api/jobs/{job_id}/items", params=params)["items"]
        return [item for item in found if item.get("reason")]

    def command(
        self,
        job_id: int,
        command: str,
        *,
        item: int | None = None,
        error_code: str | None = None,
        priority: int | None = None,
    ) -> Json:
        """Steer a job, or try items of it again."""
        values = {"target_item_id": item, "error_code": error_code, "priority": priority}
        body: Json = {"command_type": command, **{name: value for name, value in values.items() if value is not None}}
        return self._ask("POST", f"/api/jobs/{job_id}/commands", json=body)

    def dashboard(self) -> Json:
        """The state of everything, without single items."""
        return self._ask("GET", "/api/dashboard", params={"include_task_rows": "false"})

    def schedules(self) -> list[Json]:
        """Jobs that run again and again."""
        return list(self._ask("GET", "/api/schedules")["items"])

    def add_schedule(self, wanted: Json) -> Json:
        """Let a job run again and again."""
        return self._ask("POST", "/api/schedules", json=wanted)

    def change_schedule(self, schedule_id: int, *, enabled: bool) -> Json:
        """Let it run, or rest."""
        return self._ask("PATCH", f"/api/schedules/{schedule_id}", json={"enabled": enabled})

    def remove_schedule(self, schedule_id: int) -> None:
        """Forget it."""
        self._ask("DELETE", f"/api/schedules/{schedule_id}")

    def config(self) -> Json:
        """The configuration that runs, and who runs which version."""
        return self._ask("GET", "/api/config")

    def revisions(self, *, limit: int = 30) -> list[Json]:
        """The newest versions of the configuration."""
        return list(self._ask("GET", "/api/config/revisions", params={"limit": limit})["items"])

    def revision(self, revision_id: int) -> Json:
        """One version with its text."""
        return self._ask("GET", f"/api/config/revisions/{revision_id}")

    def add_revision(self, text: str, *, note: str) -> Json:
        """Keep a version."""
        return self._ask("POST", "/api/config/revisions", json={"content_text": text, "note": note})

    def diff(self, revision_id: int, *, against: int | None) -> Json:
        """What differs between two versions."""
        params = {"against": against} if against is not None else None
        return self._ask("GET", f"/api/config/revisions/{revision_id}/diff", params=params)

    def apply_revision(self, revision_id: int) -> Json:
        """Write a version to the file, and announce it."""
        return self._ask("POST", f"/api/config/revisions/{revision_id}/apply")

    def dead_letters(self) -> Iterator[Json]:
        """What could not be handled, page after page."""
        return self._pages("/api/dead", {"limit": "500"})

    def replay(self, letter: int | None) -> Json:
        """Try one dead letter again, or all."""
        return self._ask("POST", f"/api/dead/{letter}/replay" if letter is not None else "/api/dead/replay")

    def doctor(self) -> Json:
        """Who runs, and what the services found amiss at their start."""
        return self._ask("GET", "/api/doctor")

    def sources(self) -> list[Json]:
        """The configured sources, and whether they can be used."""
        return list(self._ask("GET", "/api/v1/sources")["items"])

    def token(self, *, song_id: int | None = None, locator: str | None = None) -> Json:
        """A link that plays a song without any other credential."""
        body: Json = {"song_id": song_id} if song_id is not None else {"locator": locator}
        return self._ask("POST", "/api/v1/tokens", json=body)

    def _pages(self, path: str, params: dict[str, str]) -> Iterator[Json]:
        while True:
            page = self._ask("GET", path, params=params)
            yield from page["items"]
            if not page.get("next"):
                return
            params = {**params, "cursor": str(page["next"])}

    def _ask(
        self, method: str, path: str, *, json: Json | None = None, params: Mapping[str, Any] | None = None
    ) -> Json:
        try:
            answer = self._http.request(method, path, json=json, params=params)
        except httpx.HTTPError as error:
            raise ConsoleUnreachable(
                f"The console does not answer at {self.url} ({type(error).__name__}). "
                "Start everything with `make run`, or name the right address with --url."
            ) from None
        except httpx.InvalidURL:
            raise _no_address(self.url) from None
        if answer.status_code in {401, 403}:
            raise ConsoleRefused(
                "The console did not accept the credential. It is CONSOLE_TOKEN in secrets/operator/secrets.env "
                "below the console's ROOT_DIR; give it with --credential or in the environment."
            )
        if answer.status_code >= 400:
            raise RequestRejected(_sentence(answer))
        if answer.status_code == httpx.codes.NO_CONTENT:
            return {}
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ConsoleUnreachable(
                f"What answers at {self.url} is not our console; name the right address with --url."
            )
        return content


def _no_address(url: str) -> ConsoleUnreachable:
    return ConsoleUnreachable(f"{url} is not an address of a console; give one like http://127.0.0.1:8421 with --url.")


def _sentence(answer: httpx.Response) -> str:
    """The console's own words about an error."""
    try:
        content = answer.json()
    except ValueError:
        return f"The console answered with status {answer.status_code}."
    if isinstance(content, dict) and isinstance(content.get("message"), str):
        return str(content["message"])
    return f"The console answered with status {answer.status_code}."
