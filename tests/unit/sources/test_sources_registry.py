"""Finding sources: installed ones by name, and a broken one does not stop the others."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from common.errors import ConfigurationError, DependencyDown, PermanentError
from common.settings import Settings
from sources.registry import GROUP, load_sources


def test_the_sources_that_the_settings_name_are_loaded(tmp_path: Path) -> None:
    sources = load_sources(Settings(sources="feed, local", local_media_import_path=tmp_path))
    assert list(sources.ready) == ["feed", "local"]
    assert {name: health.configured for name, health in sources.health().items()} == {"feed": False, "local": True}


def test_an_unknown_name_is_a_configuration_error() -> None:
    for name in ("tidal", "Local", "a.b"):
        with pytest.raises(ConfigurationError) as error:
            load_sources(Settings(sources=name))
        assert "SOURCES" in error.value.message and "local" in error.value.message


@pytest.mark.parametrize(
    "code", ["raise ImportError('x')", "def create(settings): raise RuntimeError", "create = lambda s: s", "x = 1"]
)
def test_a_broken_plugin_is_reported_and_the_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "broken_plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("broken_plugin", None)
    points = [
        EntryPoint(name="broken", value="broken_plugin:create", group=GROUP),
        EntryPoint(name="local", value="sources.local:create", group=GROUP),
    ]
    sources = load_sources(Settings(sources="broken,local"), points=points)
    assert list(sources.ready) == ["local"]
    health = sources.health()["broken"]
    assert not health.available and "does not load" in health.message
    with pytest.raises(DependencyDown):
        sources.get("broken")
    with pytest.raises(PermanentError):
        sources.get("other")


def test_a_source_that_fails_when_asked_for_its_health_is_not_available() -> None:
    class Failing:
        name = "failing"

        def health(self) -> None:
            raise RuntimeError("secret")

    from sources.registry import Sources

    health = Sources(ready={"failing": Failing()}).health()["failing"]  # type: ignore[dict-item]
    assert not health.available and "secret" not in health.message
