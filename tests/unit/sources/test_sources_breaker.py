"""The breaker as the HTTP client uses it: which answers of a server speak of the server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from common.breaker import FIRST_WAIT, THRESHOLD, Breakers
from common.errors import MusicCloudError, TransientError, Waiting
from sources.addresses import AddressPolicy, resolve
from sources.http import GuardedHttp, check_status
from tests.support.http_server import Behavior, ScriptedServer

BUSY = Behavior(status=503)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(patience=3600, clock=clock)


@pytest.fixture
def http(breakers: Breakers) -> Iterator[GuardedHttp]:
    with GuardedHttp(policy=AddressPolicy(allow_all=True), stall_timeout=1, breakers=breakers) as client:
        yield client


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


@pytest.fixture
def other() -> Iterator[ScriptedServer]:
    running = ScriptedServer()
    yield running
    running.stop()


def ask(http: GuardedHttp, url: str) -> int:
    with http.open(url) as response:
        response.discard()
        return response.status


def fail(http: GuardedHttp, url: str) -> MusicCloudError:
    with pytest.raises(MusicCloudError) as error, http.open(url) as response:
        check_status(response)
    return error.value


def test_one_file_that_cannot_be_had_is_not_a_server_that_is_away(
    http: GuardedHttp, breakers: Breakers, server: ScriptedServer
) -> None:
    bad, good = server.serve("/bad", BUSY), server.serve_file("/good", b"x" * 100)
    for _ in range(3 * THRESHOLD):
        assert isinstance(fail(http, bad), TransientError)
        assert ask(http, good) == 200
    assert breakers.waits() == ()


@pytest.mark.parametrize("status", [404, 403, 416, 500])
def test_an_answer_about_the_file_leaves_the_server_alone_in_no_way(
    http: GuardedHttp, breakers: Breakers, server: ScriptedServer, status: int
) -> None:
    url = server.serve("/one", Behavior(status=status))
    for _ in range(2 * THRESHOLD):
        assert not isinstance(fail(http, url), Waiting)
    assert breakers.waits() == ()


def test_ports_of_one_host_are_servers_of_their_own(
    http: GuardedHttp, server: ScriptedServer, other: ScriptedServer
) -> None:
    down, well = server.serve("/one", BUSY), other.serve_file("/one", b"x")
    for _ in range(THRESHOLD):
        fail(http, down)
    assert isinstance(fail(http, down), Waiting)
    assert len(server.requests) == THRESHOLD, "it is left alone"
    assert ask(http, well) == 200


def test_a_redirect_counts_for_the_server_that_it_leads_to(
    http: GuardedHttp, breakers: Breakers, server: ScriptedServer, other: ScriptedServer
) -> None:
    url = server.redirect("/one", other.serve("/busy", Behavior(status=429, headers={"Retry-After": "90"})))
    waiting = fail(http, url)
    assert isinstance(waiting, Waiting)
    assert waiting.seconds == pytest.approx(90)
    assert [wait.server for wait in breakers.waits()] == [f"127.0.0.1:{other.port}"]
    assert isinstance(fail(http, url), Waiting)
    assert len(other.requests) == 1
    assert ask(http, server.serve_file("/here", b"x")) == 200


@pytest.mark.parametrize("undecided", [500, 302])
def test_a_server_that_answers_strangely_when_it_is_back_does_not_keep_all_away(
    http: GuardedHttp, server: ScriptedServer, clock: Clock, undecided: int
) -> None:
    url = server.serve("/one", *[BUSY] * THRESHOLD, Behavior(status=undecided), Behavior(body=b"x"))
    for _ in range(THRESHOLD):
        fail(http, url)
    clock.now += timedelta(seconds=FIRST_WAIT + 1)
    if undecided == 302:
        ask(http, url)
    else:
        assert not isinstance(fail(http, url), Waiting)
    assert ask(http, url) == 200


def test_a_network_without_names_is_no_fault_of_the_song(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", away)
    breakers = Breakers(patience=3600)
    http = GuardedHttp(policy=AddressPolicy(), breakers=breakers)
    host = "music.example.org." + "x" * 3000
    for _ in range(THRESHOLD):
        assert fail(http, f"https://{host}/one").code == "connection-failed"
    assert isinstance(fail(http, f"https://{host}/one"), Waiting)
    assert len(breakers.waits()) == 1, "whatever the name: heartbeats tell of it"


def test_a_name_that_does_not_exist_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TransientError) as error:
        resolve("no.example.org", 443, allow_private=False)
    assert error.value.code == "host-not-found"
