"""DOWNLOAD_SOURCES, as it may be changed while songs are resolved."""

from __future__ import annotations

import pytest

from downloader.service.order import SourceOrder


def test_the_order_is_taken_as_it_is_given() -> None:
    order = SourceOrder(("feed", "archive", "jamendo"))
    assert order.get() == ()
    order.set(" jamendo, feed ,jamendo")
    assert order.get() == ("jamendo", "feed")
    order.set("")
    assert order.get() == ()


def test_names_that_are_not_in_use_are_told_and_left_out() -> None:
    told: list[str] = []
    order = SourceOrder(("feed", "archive"), warn=told.append)
    order.set("netease,archive,qq")
    assert order.get() == ("archive",)
    assert "'netease', 'qq'" in told[0]


def test_an_order_of_nothing_that_is_in_use_is_refused_and_changes_nothing() -> None:
    order = SourceOrder(("feed", "archive"))
    order.set("archive")
    with pytest.raises(ValueError, match="not in SOURCES: feed, archive"):
        order.set("netease")
    assert order.get() == ("archive",)
