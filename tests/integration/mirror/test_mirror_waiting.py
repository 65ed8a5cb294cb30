"""A pack that is being made is waited for, however often the publisher makes another snapshot meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from mirror.client import Limits, Mirror, Pulled
from mirror.problems import BeingMade, NotOffered, Unavailable
from tests.support.mirrors import assert_shows, shown
from tests.support.publisher import Asked, Publisher, PublisherServer, Reply, being_made, catalog, serving


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(publisher: Publisher) -> Iterator[PublisherServer]:
    with serving(publisher) as running:
        yield running


def pull(server: PublisherServer, folder: Path, *, wait: float = 0, pack_wait: float = 20) -> Pulled:
    with Mirror(folder, server.url, limits=Limits(wait=wait, pack_wait=pack_wait)) as mirror:
        return mirror.pull()


def wants(server: PublisherServer) -> list[str]:
    return [msgpack.unpackb(one.body)["want"][0] for one in server.requests("fetch")]


@pytest.mark.parametrize("code", ["pack-not-ready", "too-many-packs", "pack-cache-full"])
def test_it_stays_with_the_pack_that_was_begun_for_it(
    publisher: Publisher, server: PublisherServer, tmp_path: Path, code: str
) -> None:
    first = publisher.publish(catalog(10))

    def moving_on(asked: Asked) -> Reply:
        publisher.publish(catalog(10 + len(publisher.snapshots)))
        return being_made(code)

    server.replies["fetch"] = [moving_on] * 5
    pull(server, tmp_path)

    assert wants(server) == [first.id] * 6
    assert_shows(tmp_path, first)
    # The next one gets what came meanwhile, by changes.
    assert pull(server, tmp_path).delta
    assert_shows(tmp_path, publisher.snapshots[-1])


def test_it_wants_the_newest_when_that_snapshot_is_not_offered_any_more(
    publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    first = publisher.publish(catalog(10))

    def forgetting(asked: Asked) -> Reply:
        publisher.publish(catalog(11))
        return Reply(status=404)

    server.replies["fetch"] = [being_made(), forgetting, being_made()]
    pull(server, tmp_path)

    last = publisher.snapshots[-1]
    assert wants(server) == [first.id, first.id, last.id, last.id]
    assert_shows(tmp_path, last)


def test_a_proxy_may_hide_the_code_but_not_when_to_ask_again(
    publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    published = publisher.publish(catalog(10))
    server.replies["fetch"] = [Reply(status=503, headers={"Retry-After": "0"}, body=b"<html>Busy</html>")] * 3

    pull(server, tmp_path)

    assert_shows(tmp_path, published)


def test_a_pack_that_is_never_ready_is_given_up(publisher: Publisher, server: PublisherServer, tmp_path: Path) -> None:
    publisher.publish(catalog(10))
    server.replies["fetch"] = [being_made(retry_after=1)] * 100

    with pytest.raises(BeingMade) as refused:
        pull(server, tmp_path, pack_wait=1.5)

    assert (refused.value.code, refused.value.retry_after) == ("pack-not-ready", 1)
    assert 1 < len(wants(server)) < 5
    assert shown(tmp_path) is None


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (being_made("pack-failed"), Unavailable),
        (Reply(status=503), Unavailable),
        (Reply(status=500, headers={"Retry-After": "0"}), Unavailable),
        (Reply(status=404, headers={"Retry-After": "0"}), NotOffered),
    ],
    ids=["a failure", "no word of when", "another status", "no such catalog"],
)
def test_nothing_else_is_waited_for_so_long(
    publisher: Publisher, server: PublisherServer, tmp_path: Path, reply: Reply, expected: type[Exception]
) -> None:
    publisher.publish(catalog(10))
    server.replies["fetch"] = [reply] * 100

    # For as long as a pull waits at all: with the server not asking for a second of it, not once.
    with pytest.raises(expected) as refused:
        pull(server, tmp_path, wait=-1)

    assert not isinstance(refused.value, BeingMade)
    assert len(wants(server)) == 1


def test_a_server_that_goes_away_while_it_makes_the_pack_is_waited_for_as_any_other(
    publisher: Publisher, server: PublisherServer, tmp_path: Path
) -> None:
    published = publisher.publish(catalog(10))
    server.replies["fetch"] = [being_made(retry_after=3), Reply(announce=9, cut=0)]

    # The two seconds begin when it is asked again.
    pull(server, tmp_path, wait=2)

    assert_shows(tmp_path, published)
    assert len(wants(server)) == 3
