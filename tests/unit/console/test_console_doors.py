"""The decisions at the door."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.routes.rendering import make_environment, segments, size
from console.service.access import Throttle, host_allowed, host_of, local_path, same_origin


@pytest.mark.parametrize(
    ("header", "web_host", "names", "allowed"),
    [
        ("localhost:8421", "127.0.0.1", [], True),
        ("[::1]:8421", "127.0.0.1", [], True),
        ("nas.local", "127.0.0.1", [], False),
        ("NAS.local:8421", "0.0.0.0", ["nas.local"], True),
        ("192.168.1.9:8421", "0.0.0.0", [], True),
        ("192.168.1.9", "127.0.0.1", [], False),
        ("192.168.1.9", "192.168.1.9", [], True),
        ("rebind.example", "0.0.0.0", [], False),
        (None, "127.0.0.1", [], False),
        ("", "127.0.0.1", [], False),
        ("localhost.", "127.0.0.1", [], True),
        ("localhost:80@evil", "127.0.0.1", [], False),
    ],
)
def test_only_our_own_names_are_answered(header: str | None, web_host: str, names: list[str], allowed: bool) -> None:
    assert host_allowed(header, web_host=web_host, names=names) is allowed


@given(st.text(max_size=60))
def test_any_host_header_is_read_without_an_error(header: str) -> None:
    assert isinstance(host_of(header), str)


@given(st.one_of(st.none(), st.text(max_size=60)))
def test_after_the_login_one_always_stays_here(target: str | None) -> None:
    path = local_path(target)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert "\n" not in path


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil", "/login"])
def test_a_target_elsewhere_becomes_the_dashboard(target: str) -> None:
    assert local_path(target) == "/dashboard"


def test_reading_needs_no_origin_and_writing_does() -> None:
    assert same_origin("GET", {})
    assert not same_origin("POST", {})
    assert same_origin("POST", {"origin": "https://nas:8421", "host": "nas:8421"})
    assert not same_origin("POST", {"origin": "https://nas:1", "host": "nas:8421"})


def test_wrong_credentials_cost_more_and_more_and_are_forgiven_after_a_minute() -> None:
    throttle = Throttle()
    penalties = [throttle.wrong("10.0.0.1", float(second)) for second in range(12)]
    assert penalties[0].delay < penalties[5].delay <= 1
    assert [penalty.too_many for penalty in penalties].index(True) == 10
    assert not throttle.wrong("10.0.0.2", 12).too_many
    assert not throttle.wrong("10.0.0.1", 200).too_many


def test_progress_bars_show_one_failure_among_a_million() -> None:
    counts = dict.fromkeys(("succeeded", "skipped", "canceled", "running", "queued"), 0)
    parts = {part["state"]: part for part in segments(counts | {"failed": 1, "succeeded": 999_999}, 1_000_000)}
    assert parts["failed"]["width"] > 0
    assert all(0 <= part["x"] <= 1000 and part["x"] + part["width"] <= 1001 for part in parts.values())
    assert segments(counts | {"failed": 0}, 0)[0]["width"] == 0


def test_names_from_outside_stay_text() -> None:
    page = make_environment().from_string('<b title="{{ name }}">{{ name }}</b>').render(name='"><script>x</script>')
    assert "<script>" not in page
    assert size(1_234_567) == "1.2 MB"
