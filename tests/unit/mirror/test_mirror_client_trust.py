"""Whom a mirror trusts: first use, rotation, withdrawn keys; and that it never goes back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirror.errors import SignatureError
from mirror.folder import Folder
from mirror.format.keys import SigningKey
from mirror.format.manifest import Manifest, parse
from mirror.problems import Refused, SettingsProblem
from mirror.trust import Memory, Outcome, check_progress, check_signature
from tests.support.publisher import Publisher, catalog


def manifest(publisher: Publisher, **changes: object) -> Manifest:
    return parse(publisher.publish(catalog(1), **changes).manifest_bytes)


def test_the_first_key_is_believed_when_none_is_known_and_only_that_from_then_on() -> None:
    publisher, other = Publisher(), Publisher()
    first = manifest(publisher)

    assert check_signature(first, {}) == publisher.key.key_id
    memory = Memory().accept(first)

    assert memory.keys == {publisher.key.key_id: publisher.key.public_key}
    with pytest.raises(SignatureError, match="not trusted"):
        check_signature(manifest(other), memory.keys)


def test_a_first_manifest_must_show_the_key_that_signed_it() -> None:
    publisher = Publisher(listed=[SigningKey.generate()])

    with pytest.raises(SignatureError, match="--key"):
        check_signature(manifest(publisher), {})


def test_nothing_unsigned_is_believed_even_first() -> None:
    raw = {name: value for name, value in Publisher().publish(catalog(1)).manifest.items() if name != "signature"}

    with pytest.raises(SignatureError, match="not signed"):
        check_signature(parse(json.dumps(raw).encode()), {})


def test_a_key_is_followed_to_the_next_and_then_forgotten() -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    publisher = Publisher(key=old)
    memory = Memory().accept(manifest(publisher))

    publisher.listed = [old, new]
    announced = manifest(publisher)
    check_signature(announced, memory.keys)
    memory = memory.accept(announced)
    publisher.key, publisher.listed = new, [new]
    changed = manifest(publisher)
    check_signature(changed, memory.keys)
    memory = memory.accept(changed)

    assert set(memory.keys) == {new.key_id}
    publisher.key = old
    with pytest.raises(SignatureError):
        check_signature(manifest(publisher), memory.keys)


def test_the_key_that_signed_what_is_here_stays_known() -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    publisher = Publisher(key=old, listed=[new])
    memory = Memory(keys={old.key_id: old.public_key}).accept(manifest(publisher))

    assert set(memory.keys) == {old.key_id, new.key_id}


@pytest.mark.parametrize(
    "older",
    [
        {"generated_at": "2025-12-31T23:59:59.000Z"},
        {"revision": 1, "generated_at": "2026-02-01T00:00:00.000Z"},
        {"generated_at": "2025-12-31T23:59:59.000Z", "lineage": "ab" * 16, "revision": 99},
    ],
)
def test_what_is_older_is_refused(older: dict[str, object]) -> None:
    publisher = Publisher()
    manifest(publisher)
    accepted = Memory().accept(manifest(publisher)).accepted

    with pytest.raises(Refused, match="--allow-rollback") as refused:
        check_progress(manifest(publisher, **older), accepted)

    assert refused.value.code == "rollback"


def test_a_rebuilt_catalog_counts_anew_and_is_not_older() -> None:
    publisher = Publisher()
    for _ in range(5):
        accepted = Memory().accept(manifest(publisher)).accepted

    check_progress(manifest(publisher, lineage="cd" * 16, revision=1), accepted)


def test_the_same_snapshot_again_is_not_older() -> None:
    one = manifest(Publisher())

    check_progress(one, Memory().accept(one).accepted)


def test_what_was_learned_is_read_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    memory = replace(
        Memory(catalog="a/b").accept(manifest(Publisher())),
        outcome=Outcome(at=datetime(2026, 1, 1, tzinfo=UTC), code="up-to-date", message="Nothing new."),
    )

    folder.remember(memory)

    assert folder.memory() == memory


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"catalog": null, "keys": {"a": "b"}}', "\xff", "null"])
def test_a_damaged_memory_is_never_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "mirror.json").write_text(text, "latin-1")

    with pytest.raises(SettingsProblem, match="--key"):
        Folder(tmp_path).memory()
