"""A catalog without a server: ``refs.json`` in a public bucket names the newest snapshot and the packs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mirror.offer import Offer, read_count, read_id

MANY = 4096
"""Packs in a list that are looked at; a publisher keeps a few."""


def read_listing(packs: object) -> list[tuple[str | None, Offer]]:
    """(what it is applied to, the offer) of each pack; the places are still relative. Raises Refused."""
    found: list[tuple[str | None, Offer]] = []
    for pack in (packs if isinstance(packs, list) else [])[:MANY]:
        if isinstance(pack, Mapping) and isinstance(pack.get("path"), str):
            have = pack.get("have")
            found.append((None if have is None else read_id(have), _offer(pack)))
    return found


def first_step(packs: Sequence[tuple[str | None, Offer]], *, want: str, have: str | None) -> Offer | None:
    """The pack to apply first on the cheapest way to ``want``: by changes from ``have``, or the one with everything."""
    ways: dict[str, tuple[int, Offer]] = {}
    reached = [have] if have else []
    for at in reached:
        so_far, first = ways.get(at, (0, None))
        for base, offer in packs:
            if base == at and offer.want not in ways and offer.want != have:
                ways[offer.want] = so_far + (offer.size or 0), first or offer
                reached.append(offer.want)
    whole = next((offer for base, offer in packs if base is None and offer.want == want), None)
    size, step = ways.get(want, (0, None))
    return whole if step is None or (whole is not None and (whole.size or 0) < size) else step


def _offer(pack: Mapping[str, Any]) -> Offer:
    return Offer(
        want=read_id(pack.get("want")),
        url=pack["path"],
        pack_id=read_id(pack.get("mpack_id")),
        blob_count=read_count(pack.get("blob_count")),
        size=read_count(pack.get("size")),
    )
