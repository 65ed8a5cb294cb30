"""Manifests: signed by one key, read from anybody."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import KeyFormatError, ManifestError, SignatureError
from mirror.format.keys import SigningKey, decode_public_key, key_id
from mirror.format.manifest import MAX_INTEGER, canonical_bytes, parse, sign, verify
from tests.support.snapshot_example import FIRST, KEY, manifest_of

SIGNED = sign(manifest_of(FIRST, revision=3), KEY)
TRUSTED = {KEY.key_id: KEY.public_key}


def encoded(manifest: Any) -> bytes:
    return json.dumps(manifest).encode()


def test_a_signed_manifest_is_read_and_verified() -> None:
    manifest = parse(encoded({**SIGNED, "later": {"keys": ["ü", 1, None, True]}}))
    assert manifest.snapshot_id == SIGNED["snapshot_id"]
    assert manifest.generated_at == datetime(2026, 11, 21, 8, 3, tzinfo=UTC)
    assert (manifest.schema_version, manifest.lineage, manifest.revision) == (1, SIGNED["lineage"], 3)
    assert manifest.tables["catalog_tracks"].rows == 2
    assert manifest.keys == TRUSTED
    assert manifest.raw["later"] == {"keys": ["ü", 1, None, True]}
    with pytest.raises(SignatureError):
        verify(manifest, TRUSTED)
    assert verify(parse(encoded(SIGNED)), TRUSTED) == KEY.key_id


def test_the_signature_does_not_depend_on_how_the_json_is_written() -> None:
    for data in (
        json.dumps(SIGNED, indent=4, ensure_ascii=True),
        json.dumps(dict(reversed(SIGNED.items())), ensure_ascii=False),
    ):
        verify(parse(data.encode()), TRUSTED)


def test_an_unsigned_manifest_is_read_but_not_verified() -> None:
    manifest = manifest_of(FIRST, revision=1)
    for key in ("lineage", "revision", "revisions", "keys", "parent"):
        del manifest[key]
    found = parse(encoded(manifest))
    assert (found.lineage, found.revision, found.keys, found.signature) == (None, None, {}, None)
    with pytest.raises(SignatureError) as refused:
        verify(found, TRUSTED)
    assert refused.value.code == "manifest-unsigned"


def test_a_signature_of_another_key_is_refused() -> None:
    other = SigningKey.generate()
    forged = parse(encoded(sign(SIGNED, other)))
    with pytest.raises(SignatureError) as refused:
        verify(forged, TRUSTED)
    assert refused.value.code == "key-unknown"
    # Another key under the name of the trusted one.
    named = {**SIGNED, "signature": {**sign(SIGNED, other)["signature"], "key_id": KEY.key_id}}
    with pytest.raises(SignatureError) as refused:
        verify(parse(encoded(named)), TRUSTED)
    assert refused.value.code == "signature-wrong"
    with pytest.raises(SignatureError):
        verify(forged, {other.key_id: KEY.public_key})
    with pytest.raises(SignatureError):
        verify(parse(encoded(SIGNED)), {})


@pytest.mark.parametrize("key", [key for key in SIGNED if key not in ("signature", "tables", "schema_version")])
def test_every_key_is_signed(key: str) -> None:
    changed = {**SIGNED, key: {"generated_at": "2027-01-01T00:00:00Z", "keys": [], "revisions": None}.get(key, 7)}
    if key == "lineage":
        changed[key] = "f" * 32
    if key == "parent":
        changed[key] = "sha256:" + "0" * 64
    if key == "snapshot_id":
        with pytest.raises(ManifestError):
            parse(encoded(changed))
        return
    with pytest.raises(SignatureError):
        verify(parse(encoded(changed)), TRUSTED)


def table(**changes: Any) -> dict[str, Any]:
    return {"tables": {**SIGNED["tables"], "catalog_tracks": {**SIGNED["tables"]["catalog_tracks"], **changes}}}


DIGEST = "sha256:" + "0" * 64
ODD: dict[str, dict[str, Any]] = {
    "an id that does not follow": {"snapshot_id": DIGEST},
    "an id in capitals": {"snapshot_id": SIGNED["snapshot_id"].upper()},
    "an id that is a list": {"snapshot_id": [SIGNED["snapshot_id"]]},
    "no id": {"snapshot_id": None},
    "other rows": table(rows=3),
    "another digest": table(digest=DIGEST),
    "rows of text": table(rows="2"),
    "rows below zero": table(rows=-1),
    "a size that is true": table(size=True),
    "no tables": {"tables": None},
    "tables of a list": {"tables": list(SIGNED["tables"])},
    "a table too many": {"tables": {**SIGNED["tables"], "x": SIGNED["tables"]["catalog_tracks"]}},
    "a table too few": {"tables": {"catalog_tracks": SIGNED["tables"]["catalog_tracks"]}},
    "a table of null": {"tables": {**SIGNED["tables"], "catalog_tracks": None}},
    "an unknown schema": {"schema_version": 2},
    "a schema of text": {"schema_version": "1"},
    "a schema that is true": {"schema_version": True},
    "a time without zone": {"generated_at": "2026-11-21T08:00:00"},
    "a time elsewhere": {"generated_at": "2026-11-21T08:00:00+02:00"},
    "a time that is none": {"generated_at": "2026-13-41T28:00:00Z"},
    "a time of the year 0": {"generated_at": "0000-01-01T00:00:00Z"},
    "a time in other digits": {"generated_at": "٢٠٢٦-11-21T08:00:00Z"},
    "a time of a number": {"generated_at": 1},
    "no time": {"generated_at": None},
    "a count below zero": {"track_count": -1},
    "a count of null": {"cover_count": None},
    "a lineage in capitals": {"lineage": "F" * 32},
    "a lineage too short": {"lineage": "f" * 31},
    "a revision without lineage": {"lineage": None},
    "a revision of text": {"revision": "3"},
    "no revision": {"revision": None},
    "a range upside down": {"revisions": {"first": 3, "last": 2}},
    "a range of a list": {"revisions": [1, 2]},
    "a parent that is no id": {"parent": "x"},
    "keys of a map": {"keys": {}},
    "too many keys": {"keys": SIGNED["keys"] * 17},
    "a key of another name": {"keys": [{**SIGNED["keys"][0], "key_id": "0" * 16}]},
    "a key too short": {"keys": [{**SIGNED["keys"][0], "public_key": "AAAA"}]},
    "a key of a number": {"keys": [1]},
    "another algorithm": {"signature": {**SIGNED["signature"], "algorithm": "none"}},
    "a signature of text": {"signature": "x"},
    "a signature too short": {"signature": {**SIGNED["signature"], "value": "AAAA"}},
    "a signature not in base64": {"signature": {**SIGNED["signature"], "value": "?" * 88}},
    "a signature in letters beyond ASCII": {"signature": {**SIGNED["signature"], "value": "ä" * 88}},
    "a signature of no key": {"signature": {**SIGNED["signature"], "key_id": None}},
    "a real": {"later": 1.0},
    "a real in a list": {"later": [{"x": [1e3]}]},
    "a huge integer": {"later": MAX_INTEGER + 1},
    "half a character": {"later": "\ud800"},
    "half a character as a key": {"\ud800": 1},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_a_manifest_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError) as refused:
        parse(encoded({**SIGNED, **changes}))
    assert refused.value.code in ("manifest-invalid", "schema-version-unknown")


TEXT = encoded(SIGNED)
BROKEN: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"{",
    "a list": lambda: b"[]",
    "null": lambda: b"null",
    "cut off": lambda: TEXT[:-1],
    "followed by more": lambda: TEXT + b"{}",
    "a key twice": lambda: TEXT[:-1] + b', "revision": 4}',
    "a key twice within": lambda: TEXT.replace(b'"rows": 2', b'"rows": 2, "rows": 2'),
    "not UTF-8": lambda: TEXT.replace(b"Ed25519", b"Ed25519\xff"),
    "in UTF-16": lambda: json.dumps(SIGNED).encode("utf-16"),
    "not a number": lambda: TEXT[:-1] + b', "x": NaN}',
    "infinity": lambda: TEXT[:-1] + b', "x": -Infinity}',
    "an exponent": lambda: TEXT[:-1] + b', "x": 1e5}',
    "digits without end": lambda: TEXT[:-1] + b', "x": ' + b"9" * 100_000 + b"}",
    "brackets without end": lambda: b"[" * 500_000,
    "braces without end": lambda: b'{"a":' * 100_000,
    "nested too deeply": lambda: TEXT[:-1] + b', "x": ' + b"[" * 20 + b"]" * 20 + b"}",
    "too large": lambda: TEXT[:-1] + b', "x": "' + b"y" * 2**20 + b'"}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_manifest_is_refused(data: Callable[[], bytes]) -> None:
    with pytest.raises(ManifestError):
        parse(data())


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_bring_the_reader_down(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse(data)


def test_the_canonical_bytes_are_as_described() -> None:
    manifest = {
        "b": [1, -2, True, None],
        "signature": {"x": 1},
        "a": {"z": 'ü\n"\\\x01\x7f/🎵', "Z": 0, "é": "", "€": {}},
    }
    expected = '{"a":{"Z":0,"z":"ü\\n\\"\\\\\\u0001\x7f/🎵","é":"","€":{}},"b":[1,-2,true,null]}'
    assert canonical_bytes(manifest) == expected.encode()
    assert canonical_bytes({"\U0001f3b5": 1, "\uffff": 2}) == '{"\uffff":2,"\U0001f3b5":1}'.encode()
    for odd in ({"x": 1.0}, {"x": 2**53}, {1: 2}, {"x": b""}):
        with pytest.raises(ManifestError):
            canonical_bytes(odd)  # type: ignore[arg-type]


def test_a_key_is_read_back_from_both_of_its_texts() -> None:
    key = SigningKey.generate()
    for text in (key.to_pem(), key.to_seed(), f"\n{key.to_seed()} \n"):
        again = SigningKey.from_text(text)
        assert again.public_key == key.public_key
        assert again.sign(b"x") == key.sign(b"x")
    assert decode_public_key(base64.b64encode(key.public_key).decode()) == key.public_key
    assert key.key_id == key_id(key.public_key)


def test_the_keys_are_those_of_rfc_8032() -> None:
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_text(base64.b64encode(seed).decode())
    assert key.public_key.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")


def test_a_key_that_cannot_be_used_is_refused_without_showing_it() -> None:
    rsa = generate_private_key(public_exponent=65537, key_size=2048)
    locked = SigningKey.generate()._private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    texts = [
        "",
        "kein Schlüssel",
        base64.b64encode(b"geheim" * 5).decode(),
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        locked.decode(),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ]
    for text in texts:
        with pytest.raises(KeyFormatError) as refused:
            SigningKey.from_text(text)
        assert not text or text not in str(refused.value)
    with pytest.raises(KeyFormatError):
        decode_public_key("AAAA")
