"""Charts that a service makes itself: most heard this week, this month, of all time."""

from __future__ import annotations

from collections.abc import Iterator

from common.errors import ConfigurationError
from common.settings import split_list

from ..port import TOPLIST, PlaylistRef, Pool

PREFIX = "toplists/"
"""Of the remote ids of charts."""
LENGTH = 100
"""Songs of a chart: what Audius gives at most, and what people call one."""
PERIODS = {"week": "this week", "month": "this month", "all-time": "of all time"}


class Toplists:
    """The charts that a person named. Each is a pool of its own, so that its id does not change with the others."""

    def __init__(self, text: str, *, setting: str, source: str, title: str) -> None:
        """``text``: what ``setting`` holds; ``title``: of the service. Raises :class:`ConfigurationError`."""
        self._name = f"{title} toplists"
        self._refs: dict[str, PlaylistRef] = {}
        for period in split_list(text):
            if period not in PERIODS:
                raise ConfigurationError(f"{setting} holds {period[:80]!r}. Write some of: {', '.join(PERIODS)}.")
            ref = PlaylistRef(remote_id=PREFIX + period, name=f"{title}: most heard {PERIODS[period]}")
            self._refs[f"{source}-{period}"] = ref

    def pools(self) -> Iterator[Pool]:
        for external_id in self._refs:
            yield Pool(external_id=external_id, name=self._name, kind=TOPLIST)

    def of_pool(self, external_id: str) -> PlaylistRef | None:
        """The chart of a pool; None for another pool, or one that is no longer named."""
        return self._refs.get(external_id)

    def find(self, remote_id: str) -> PlaylistRef | None:
        """The chart with this id; None where none of those named has it."""
        return next((ref for ref in self._refs.values() if ref.remote_id == remote_id), None)
