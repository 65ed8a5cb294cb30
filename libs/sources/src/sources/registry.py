"""Finding the sources in use: by entry points, so that a plug-in is installed, not configured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from common.errors import ConfigurationError, DependencyDown, MusicCloudError, PermanentError
from common.settings import Settings
from common.telemetry import get_logger

from .port import Health, Searchable, Source

GROUP = "music_cloud.sources"
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
"""A source's name stands in subjects."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The sources that the settings name. ``broken``: those that could not be loaded, and why."""

    ready: Mapping[str, Source]
    broken: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Source:
        """The source of that name.

        Raises :class:`DependencyDown` when its plug-in does not load (its items wait until it is
        mended), :class:`PermanentError` when no such source is in use.
        """
        if (source := self.ready.get(name)) is not None:
            return source
        if name in self.broken:
            raise DependencyDown(self.broken[name], code="source-broken", retry_after=60)
        raise PermanentError(f"The source {name} is not in use here. Add it to SOURCES.", code="source-unknown")

    def can_search(self, name: str) -> bool:
        """Whether songs of others can be looked for there now: it can be searched, and is set up. May block."""
        try:
            source = self.ready.get(name)
            return isinstance(source, Searchable) and source.health().configured
        except Exception as error:  # a plug-in is anybody's
            get_logger().warning("source health failed", source=name, exc_info=error)
            return False

    def served(self, platforms: Sequence[str], *, by: Sequence[str]) -> tuple[str, ...]:
        """Those of ``platforms`` whose songs the sources ``by`` may give; empty: all that are in use.

        A source gives its own songs; where one can be searched, songs of any other may be found there.
        """
        if not by or any(isinstance(self.ready.get(name), Searchable) for name in by):
            return tuple(platforms)
        return tuple(name for name in platforms if name in by)

    def health(self) -> dict[str, Health]:
        """Of every source that the settings name. May block; a source that raises is not available."""
        found = {name: Health(available=False, message=why) for name, why in self.broken.items()}
        for name, source in self.ready.items():
            try:
                found[name] = source.health()
            except MusicCloudError as error:
                found[name] = Health(available=False, message=error.message)
            except Exception as error:  # a plug-in is anybody's
                get_logger().warning("source health failed", source=name, exc_info=error)
                found[name] = Health(
                    available=False, message=f"The source {name} failed when asked ({type(error).__name__})."
                )
        return found


def load_sources(settings: Settings, *, points: Iterable[EntryPoint] | None = None) -> Sources:
    """Load the sources that ``settings.source_names`` lists.

    Raises :class:`ConfigurationError` for a name that no installed plug-in has, and for settings
    that a source cannot work with. A plug-in that fails to load is reported in ``broken``.
    """
    installed = {point.name: point for point in (entry_points(group=GROUP) if points is None else points)}
    ready: dict[str, Source] = {}
    broken: dict[str, str] = {}
    for name in settings.source_names:
        point = installed.get(name)
        if point is None or not _NAME.fullmatch(name):
            known = ", ".join(sorted(installed)) or "none"
            raise ConfigurationError(
                f"SOURCES names {name[:64]!r}, which is not installed. Installed are: {known}. "
                "Correct SOURCES, or install the plug-in."
            )
        try:
            source = point.load()(settings)
            if source.name != name:
                raise TypeError(f"it calls itself {source.name!r}")
        except ConfigurationError:
            raise
        except Exception as error:  # whatever a plug-in does at load must not stop the others
            get_logger().error("source does not load", source=name, exc_info=error)
            broken[name] = (
                f"The plug-in of the source {name} does not load ({type(error).__name__}). "
                "Mend or remove it; the log has the details."
            )
        else:
            ready[name] = source
    return Sources(ready=ready, broken=broken)
