"""Fetching from hostile servers: which addresses are asked, what is sent where, and when it gives up."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from common.errors import MusicCloudError, PermanentError, TransientError
from sources.addresses import AddressPolicy, Origin, is_public, names_private_address, split_http_url
from sources.http import GuardedHttp, check_status, iter_body
from tests.support.feed_server import FeedServer, Route, feed_server


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with feed_server() as running:
        yield running


def client(**options: Any) -> GuardedHttp:
    return GuardedHttp(policy=AddressPolicy(), stall_timeout=0.6, connect_timeout=2, **options)


def get(http: GuardedHttp, url: str, **options: Any) -> bytes:
    with http.open(url, **options) as response:
        check_status(response)
        return b"".join(response.stream())


def code_of(http: GuardedHttp, url: str, **options: Any) -> str:
    with pytest.raises(MusicCloudError) as error:
        get(http, url, **options)
    return error.value.code


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("2002:c0a8:101::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "nas", "localhost", "nas.local", "10.0.0.2", "[::1]", "x.lan."])
def test_names_of_the_local_network(host: str) -> None:
    assert names_private_address(host)


@pytest.mark.parametrize("host", ["example.com", "93.184.216.34", "local.example.org"])
def test_names_of_the_internet(host: str) -> None:
    assert not names_private_address(host)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://",
        "//x",
        "http://h:99999/",
        "http://[::1",
        "http://h/a b",
        "h\n://x",
    ],
)
def test_what_is_no_http_url(url: str) -> None:
    with pytest.raises(PermanentError):
        split_http_url(url)


def test_private_addresses_are_refused_in_every_spelling(server: FeedServer) -> None:
    server.serve("/x", b"secret")
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"):
        with pytest.raises(MusicCloudError) as error:
            get(client(), f"http://{host}:{server.port}/x")
        assert error.value.code in ("address-refused", "host-not-found"), host
    assert server.seen == []


def test_a_person_can_allow_one_host_and_port_or_all(server: FeedServer) -> None:
    url = server.serve("/x", b"music")
    assert get(client(), url, allow_private=True) == b"music"
    for policy in (
        AddressPolicy.from_setting(allow_private_addresses=False, allow_private_hosts=["127.0.0.1"]),
        AddressPolicy.from_setting(allow_private_addresses=False, allow_private_hosts=[f"127.0.0.1:{server.port}"]),
        AddressPolicy.from_setting(allow_private_addresses=True, allow_private_hosts=[]),
    ):
        assert get(GuardedHttp(policy=policy), url) == b"music"
    other = AddressPolicy.from_setting(allow_private_addresses=False, allow_private_hosts=["127.0.0.1:1"])
    assert code_of(GuardedHttp(policy=other), url) == "address-refused"


def test_a_redirect_to_another_private_address_is_refused(server: FeedServer) -> None:
    with feed_server() as inner:
        inner.serve("/secret", b"secret")
        url = server.redirect("/out", f"{inner.url}/secret")
        assert code_of(client(), url, allow_private=True) == "address-refused"
        assert inner.seen == []
        assert code_of(client(), server.redirect("/f", "file:///etc/passwd"), allow_private=True) == "url-scheme"


def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when asked first and private when asked again leads nowhere private."""
    server.serve("/x", b"secret")
    real = socket.getaddrinfo
    asked: list[str] = []

    def rebinding(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        # 198.51.100.1 counts as reserved; a public address that nobody here can reach stands in.
        return real("8.255.255.255" if len(asked) == 1 else "127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    http = GuardedHttp(policy=AddressPolicy(), connect_timeout=0.2)
    assert code_of(http, f"http://rebind.example:{server.port}/x") in ("connection-failed", "server-stalled")
    assert asked == ["rebind.example"] and server.seen == []


def test_credentials_stay_with_their_origin(server: FeedServer) -> None:
    with feed_server() as other:
        other.serve("/song", b"music")
        policy = AddressPolicy(allow_all=True)
        secret = {"Authorization": "Basic c2VjcmV0", "Cookie": "a=b", "X-Api-Key": "k"}
        get(GuardedHttp(policy=policy), server.redirect("/away", f"{other.url}/song"), headers=secret)
        assert {"Authorization", "Cookie", "X-Api-Key"} <= set(server.seen[0][1])
        assert not {"Authorization", "Cookie", "X-Api-Key"} & set(other.seen[0][1])
        server.serve("/here", b"music")
        get(GuardedHttp(policy=policy), server.redirect("/same", "/here"), headers=secret)
        assert server.seen[-1][1]["Authorization"] == "Basic c2VjcmV0"


def test_redirects_end(server: FeedServer) -> None:
    assert code_of(client(), server.redirect("/round", "/round"), allow_private=True) == "too-many-redirects"


def test_a_stalled_server_is_given_up_before_and_within_the_body(server: FeedServer) -> None:
    start = time.monotonic()
    assert code_of(client(), server.stall("/body", b"x" * 10), allow_private=True) == "server-stalled"

    def say_nothing(handler: BaseHTTPRequestHandler) -> None:
        server.stopping.wait(10)

    server.routes["/silent"] = Route(act=say_nothing)
    assert code_of(client(), server.url + "/silent", allow_private=True) == "server-stalled"
    assert time.monotonic() - start < 6


def test_a_server_that_drips_is_stalled_and_a_slow_one_is_not(server: FeedServer) -> None:
    def act(size: int, times: int) -> Any:
        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(size * times))
            handler.end_headers()
            for _ in range(times):
                handler.wfile.write(b"x" * size)
                handler.wfile.flush()
                if server.stopping.wait(0.1):
                    return

        return drip

    server.routes["/drip"] = Route(act=act(1, 1000))
    server.routes["/slow"] = Route(act=act(2000, 12))
    assert code_of(client(), server.url + "/drip", allow_private=True) == "server-stalled"
    assert len(get(client(), server.url + "/slow", allow_private=True)) == 24_000


def test_a_body_that_breaks_off_is_not_taken_for_whole(server: FeedServer) -> None:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"x" * 40)
        handler.close_connection = True

    server.routes["/short"] = Route(act=act)
    assert code_of(client(), server.url + "/short", allow_private=True) == "connection-lost"


def test_a_canceled_transfer_stops_soon(server: FeedServer) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    http = GuardedHttp(policy=AddressPolicy(), stall_timeout=30)
    start = time.monotonic()
    assert code_of(http, server.stall("/x"), allow_private=True, canceled=stop.is_set) == "stopped"
    assert time.monotonic() - start < 5


def test_an_answer_that_is_too_large_stops_at_the_limit(server: FeedServer) -> None:
    url = server.serve("/big", b"x" * 3_000_000)
    with client().open(url, allow_private=True) as response, pytest.raises(PermanentError) as error:
        for _ in iter_body(response, limit=1024 * 1024):
            pass
    assert error.value.code == "answer-too-large"
    assert response.received < 2_000_000


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, PermanentError, "source-file-missing"),
        (410, PermanentError, "source-file-missing"),
        (401, PermanentError, "access-refused"),
        (403, PermanentError, "access-refused"),
        (418, PermanentError, "http-status"),
        (429, TransientError, "server-busy"),
        (500, TransientError, "server-error"),
        (503, TransientError, "server-busy"),
    ],
)
def test_what_a_status_means(server: FeedServer, status: int, kind: type[MusicCloudError], code: str) -> None:
    server.routes["/x"] = Route(status=status, headers={"Retry-After": "7"})
    with pytest.raises(kind) as error:
        get(client(), server.url + "/x", allow_private=True)
    assert error.value.code == code
    if isinstance(error.value, TransientError):
        assert error.value.retry_after == 7


def test_ranges_and_kept_connections(server: FeedServer) -> None:
    url = server.serve("/x", b"music")
    http = client()
    for _ in range(5):
        get(http, url, allow_private=True, range_from=3, if_range='"tag"')
    assert server.connections == 1
    assert server.seen[-1][1]["Range"] == "bytes=3-" and server.seen[-1][1]["If-Range"] == '"tag"'
    http.close()


def test_a_kept_connection_that_the_server_closed_is_replaced(server: FeedServer) -> None:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"ok")
        handler.close_connection = True  # without saying so

    server.routes["/x"] = Route(act=act)
    http = client()
    assert [get(http, server.url + "/x", allow_private=True) for _ in range(4)] == [b"ok"] * 4


def test_no_header_can_smuggle_another_request(server: FeedServer) -> None:
    server.serve("/x", b"music")
    code = code_of(client(), server.url + "/x", allow_private=True, headers={"Accept": "a\r\nX: y"})
    assert code == "bad-answer" and server.seen == []


def test_origins() -> None:
    assert Origin.of("http://H:80/x") == Origin.of("http://h/y")
    assert Origin.of("http://h/") != Origin.of("https://h/")


def test_garbage_instead_of_http() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    assert code_of(client(), f"http://127.0.0.1:{port}/", allow_private=True) in ("bad-answer", "connection-failed")
    thread.join()
    listener.close()
