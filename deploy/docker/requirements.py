"""Say what an image needs of this repository: libraries of requirements.lock with their hashes, or members.

    python requirements.py libraries PROJECT [--without PROJECT]     entries of requirements.lock
    python requirements.py members PROJECT                           folders of members

Run in a folder that has requirements.lock and the members' manifests. The lock says who asked for each library
("via"), so that nothing is resolved again: what is printed is installed with --no-deps, and `pip check` proves it
whole.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LOCK = Path("requirements.lock")
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_PARENT = re.compile(r"#\s+(?:via\s+)?([A-Za-z0-9][A-Za-z0-9._-]*)$")


@dataclass(frozen=True)
class Member:
    """A package of this repository. ``extras``: what it asks for besides, by the name of the extra."""

    folder: Path
    dependencies: list[str]
    extras: Mapping[str, list[str]]


def main() -> None:
    """Read the command line, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("libraries", "members"))
    parser.add_argument("project")
    parser.add_argument("--without", help="leave out what this one needs")
    given = parser.parse_args()
    members = dict(read_members())
    if given.what == "members":
        names = [name for name in asked_for(given.project, members) if name in members]
        print("\n".join(f"./{members[name].folder}" for name in dict.fromkeys(names)))
        return
    entries = dict(read_lock())
    wanted = closure(given.project, members, entries)
    wanted -= closure(given.without, members, entries) if given.without else set()
    print("\n".join(entries[name] for name in sorted(wanted)))


def normal(name: str) -> str:
    """A project's name as all tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_members() -> Iterator[tuple[str, Member]]:
    """The packages of this repository whose manifests are here."""
    for manifest in Path().glob("*/*/pyproject.toml"):
        project = tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        yield normal(project["name"]), Member(manifest.parent, project.get("dependencies", []), extras)


def read_lock() -> Iterator[tuple[str, str]]:
    """The entries of the lock: the library's name, and its lines."""
    for entry in re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text(encoding="utf-8")):
        name, equals, _ = entry.partition("==")
        if equals and not entry.startswith("#"):
            yield normal(name.split("[")[0]), entry.strip()


def asked_for(requirement: str, members: Mapping[str, Member]) -> Iterator[str]:
    """The project that a requirement names, and where that is a member, all that it asks for in turn."""
    found = _REQUIREMENT.match(requirement)
    assert found is not None, requirement
    name = normal(found[1])
    yield name
    if name in members:
        member = members[name]
        extras = [extra.strip() for extra in (found[2] or "").split(",") if extra.strip()]
        for text in (*member.dependencies, *(text for extra in extras for text in member.extras[extra])):
            yield from asked_for(text, members)


def closure(project: str, members: Mapping[str, Member], entries: Mapping[str, str]) -> set[str]:
    """The names of all libraries that a project needs."""
    wanted = set(asked_for(project, members)) - members.keys()
    missing = sorted(wanted - entries.keys())
    if missing:
        sys.exit(f"{LOCK} has no {', '.join(missing)}: run `make lock`")
    while more := {name for name, entry in entries.items() if name not in wanted and parents(entry) & wanted}:
        wanted |= more
    return wanted


def parents(entry: str) -> set[str]:
    """Who asked for the library of an entry."""
    return {normal(found[1]) for line in entry.splitlines() if (found := _PARENT.search(line.strip()))}


if __name__ == "__main__":
    main()
