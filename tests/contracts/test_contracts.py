"""The contracts stay what outsiders were told: the document is current, old messages parse for ever."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import asyncapi
from common.contracts.envelope import Message, UndecodableMessage, decode, encode, wrap
from common.contracts.facts import FACTS, SongListed
from common.contracts.jobs import JobsState
from common.contracts.settings import LiveSettings
from common.contracts.status import DeadLetter, Heartbeat, ItemStatus, LogEntry
from common.contracts.streams import STREAMS
from common.contracts.work import ITEMS

ROOT = Path(__file__).parents[2]
MESSAGES = sorted((Path(__file__).parent / "messages").glob("*.json"))
ALL: list[type[Message]] = [*FACTS, *ITEMS, ItemStatus, DeadLetter, LogEntry, Heartbeat, JobsState, LiveSettings]
MODELS = {model.TYPE: model for model in ALL}
SONG = SongListed(song_id=1, platform="x", remote_id="1", name="n")


def test_the_asyncapi_document_is_current() -> None:
    committed = (ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8")
    assert committed == asyncapi.text(), "run `make docs` and commit docs/asyncapi.json"


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi.document()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for part in value.values() for found in references(part)]
        if isinstance(value, list):
            return [found for part in value for found in references(part)]
        return []

    found = references(document)
    assert found
    for reference in found:
        at: object = document
        for part in reference.removeprefix("#/").split("/"):
            assert isinstance(at, dict), reference
            at = at[part]


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_real_messages_of_every_version_parse(path: Path) -> None:
    payload = path.read_bytes()
    content = json.loads(payload)
    envelope = decode(payload, MODELS[content["type"]])
    kept = json.loads(encode(envelope))["data"]
    assert _lost(content["data"], kept) == []
    assert envelope.id == content["id"]


def _lost(told: object, kept: object, at: str = "data") -> list[str]:
    """Where ``kept`` says something else than the message did; fields that came later do not matter."""
    if isinstance(told, dict) and isinstance(kept, dict):
        return [where for key in told if key in kept for where in _lost(told[key], kept[key], f"{at}.{key}")]
    if isinstance(told, list) and isinstance(kept, list) and len(told) == len(kept):
        return [where for number, one in enumerate(told) for where in _lost(one, kept[number], f"{at}[{number}]")]
    return [] if told == kept else [at]


def test_there_is_a_real_message_of_every_type() -> None:
    assert {json.loads(path.read_bytes())["type"] for path in MESSAGES} == set(MODELS)


def test_contracts_import_only_pydantic() -> None:
    allowed = {"abc", "pydantic", "typing", "datetime", "enum", "json", "secrets", "__future__"}
    for path in (ROOT / "libs/common/src/common/contracts").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in allowed, (path, node.module)


@given(st.binary(max_size=200))
def test_bytes_that_are_not_ours_are_refused_with_a_sentence(payload: bytes) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        decode(payload, SongListed)
    assert str(caught.value)


def test_another_version_is_refused_with_what_to_do() -> None:
    content = json.loads(
        encode(wrap(SongListed(song_id=1, platform="x", remote_id="1", name="n"), id="a", producer="p"))
    )
    with pytest.raises(UndecodableMessage, match="upgrade"):
        decode(json.dumps({**content, "version": 99}).encode(), SongListed)
    with pytest.raises(UndecodableMessage, match=r"song\.listed"):
        decode(json.dumps({**content, "type": "song.heard"}).encode(), SongListed)


def test_unknown_fields_are_ignored() -> None:
    content = json.loads(
        encode(wrap(SongListed(song_id=1, platform="x", remote_id="1", name="n"), id="a", producer="p"))
    )
    content["later"] = 1
    content["data"]["later"] = {"a": [1]}
    assert decode(json.dumps(content).encode(), SongListed).data.name == "n"


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=4))
def test_any_words_survive_the_envelope(name: str, singers: list[str]) -> None:
    usable = name.encode("utf-8", "replace").decode()
    fact = SongListed(
        song_id=2**53 - 1,
        platform="x",
        remote_id="1",
        name=usable,
        singers=tuple(singer.encode("utf-8", "replace").decode() for singer in singers),
    )
    assert decode(encode(wrap(fact, id="a", producer="p")), SongListed).data == fact


def test_streams_guard_what_they_hold() -> None:
    by_name = {spec.name: spec for spec in STREAMS}
    assert by_name["CATALOG"].deny_purge
    assert by_name["CATALOG"].max_age == 0
    assert by_name["CATALOG"].max_msgs_per_subject == 1
    assert by_name["WORK"].discard_new_per_subject
    assert by_name["WORK"].retention == "workqueue"
