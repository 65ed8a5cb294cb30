"""Which URLs a mirror takes from a person, and which from a server."""

from __future__ import annotations

import pytest

from mirror.address import Address, is_loopback, same_origin
from mirror.bell import check_bus_url
from mirror.problems import Refused, SettingsProblem


@pytest.mark.parametrize(
    ("text", "url", "name"),
    [
        ("https://music.example/somebody/music", "https://music.example/somebody/music", "somebody/music"),
        ("https://music.example:8443/a/b/", "https://music.example:8443/a/b", "a/b"),
        ("https://music.example/behind/a/proxy/a/b", "https://music.example/behind/a/proxy/a/b", "a/b"),
        ("http://127.0.0.1:8423/a/b", "http://127.0.0.1:8423/a/b", "a/b"),
        ("http://[::1]:8423/a/b", "http://[::1]:8423/a/b", "a/b"),
        ("http://localhost/a/b", "http://localhost/a/b", "a/b"),
    ],
)
def test_a_catalog_is_named_by_a_url(text: str, url: str, name: str) -> None:
    address = Address.parse(text)

    assert (address.url, address.name) == (url, name)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("https://user:secret@music.example/a/b", "url-credentials"),
        ("http://music.example/a/b", "url-not-encrypted"),
        ("http://10.0.0.7/a/b", "url-not-encrypted"),
        ("ftp://music.example/a/b", "url"),
        ("https://music.example/a", "url"),
        ("https://music.example/a/b?token=secret", "url"),
        ("https://music.example/a/b#part", "url"),
        ("https://music.example/a/../b", "url"),
        ("https://music.example/a/b c", "url"),
        ("/a/b", "url"),
        ("https://music.example:notaport/a/b", "url"),
        ("", "url"),
    ],
)
def test_other_urls_are_refused_with_a_sentence_that_shows_no_secret(text: str, code: str) -> None:
    with pytest.raises(SettingsProblem) as refused:
        Address.parse(text)

    assert refused.value.code == code
    assert "secret" not in refused.value.message


def test_http_to_other_machines_has_to_be_allowed() -> None:
    assert Address.parse("http://music.example/a/b", allow_http=True).url == "http://music.example/a/b"


def test_a_server_may_name_places_relative_to_itself_and_encrypted_ones() -> None:
    address = Address.parse("https://music.example/a/b")

    assert address.follow("/packs/1?sig=2", base=address.url) == "https://music.example/packs/1?sig=2"
    assert address.follow("https://store.example/p", base=address.url) == "https://store.example/p"


@pytest.mark.parametrize(
    "place",
    [
        "http://store.example/p",
        "http://127.0.0.1:6379/p",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://user:password@store.example/p",
        "https://:80",
        "ftp://store.example/p",
        "https://store.example/" + "x" * 10_000,
    ],
)
def test_a_server_cannot_send_the_mirror_anywhere_else(place: str) -> None:
    address = Address.parse("https://music.example/a/b")

    with pytest.raises(Refused):
        address.follow(place, base=address.url)


def test_a_server_on_this_machine_may_name_others_on_it_but_no_unencrypted_one_elsewhere() -> None:
    address = Address.parse("http://127.0.0.1:1/a/b")

    assert address.follow("http://localhost:2/p", base=address.url) == "http://localhost:2/p"
    with pytest.raises(Refused):
        address.follow("http://store.example/p", base=address.url)


def test_credentials_belong_to_one_scheme_host_and_port() -> None:
    assert same_origin("https://a.example/x", "https://a.example:443/y")
    assert not same_origin("https://a.example/x", "http://a.example/x")
    assert not same_origin("https://a.example/x", "https://a.example:444/x")
    assert not same_origin("https://a.example/x", "https://b.example/x")


def test_loopback_is_an_address_and_not_a_name_that_looks_like_one() -> None:
    assert is_loopback("127.1.2.3")
    assert is_loopback("::1")
    assert not is_loopback("127.0.0.1.example")
    assert not is_loopback("localhost.example")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nats://bus.example:4222", "url-not-encrypted"),
        ("tls://reader:secret@bus.example:4222", "url-credentials"),
        ("bus.example", "bus-url"),
        ("http://bus.example", "bus-url"),
        ("nats://[", "bus-url"),
    ],
)
def test_a_bus_is_named_by_a_url_too(url: str, code: str) -> None:
    with pytest.raises(SettingsProblem) as refused:
        check_bus_url(url, allow_plain=False)

    assert refused.value.code == code
    assert "secret" not in refused.value.message


def test_an_encrypted_bus_and_one_on_this_machine_are_taken() -> None:
    check_bus_url("tls://bus.example:4222", allow_plain=False)
    check_bus_url("nats://127.0.0.1:4222", allow_plain=False)
    check_bus_url("nats://bus.example:4222", allow_plain=True)
