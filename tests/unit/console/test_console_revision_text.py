"""Masking an env file and putting its secrets back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.redaction import MASK
from console.service.revision_text import is_secret, masked, new_secrets, restored

_VALUES = st.text("abcXYZ019_./:-=+@", min_size=1, max_size=30)
_LINES = st.one_of(
    st.builds("OBJECT_PREFIX={}".format, _VALUES),
    st.builds("export OBJECT_BUCKET = '{}'".format, _VALUES),
    st.builds("NATS_PASSWORD={}".format, _VALUES),
    st.builds('CONSOLE_TOKEN="{}"'.format, _VALUES),
    st.builds("# {}".format, _VALUES),
    st.builds("#OBJECT_SECRET_KEY={}".format, _VALUES),
    st.builds(
        "FEEDS=https://{}:pw@host/a?token={},b.m3u".format, st.text("abc", min_size=1), st.text("xyz9", min_size=4)
    ),
    st.just(""),
)


def test_what_is_a_secret() -> None:
    secrets = {"NATS_PASSWORD", "DATABASE_URL", "PLUGIN_X_API_KEY", "object_secret_key", "POSTGRES_PASSWORD"}
    assert all(is_secret(name) for name in secrets)
    assert not any(is_secret(name) for name in ("BACKUP_PASSPHRASE_FILE", "NATS_TLS_KEY", "OBJECT_BUCKET"))


@given(st.lists(_LINES, max_size=8, unique_by=lambda line: line.partition("=")[0].replace("export", "").strip()))
def test_a_masked_text_is_put_back_as_it_was(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    shown = masked(text)
    assert masked(shown) == shown
    assert new_secrets(shown) == []
    whole, problems = restored(shown, current=text)
    assert problems == []
    assert [line.split() for line in whole.splitlines()] == [line.split() for line in text.splitlines()]


def test_a_secret_is_masked_wherever_it_stands() -> None:
    text = "OBJECT_SECRET_KEY='correct horse'\nOBJECT_PREFIX=x/correct horse/y\n# it was correct horse\ncorrect horse\n"
    assert "horse" not in masked(text)
    assert "from-the-environment" not in masked("# from-the-environment\n", secrets={"from-the-environment"})


def test_secrets_that_only_one_side_has() -> None:
    current = "OBJECT_SECRET_KEY=now\nOBJECT_BUCKET=b"
    assert restored("OBJECT_BUCKET=c", current=current) == ("OBJECT_BUCKET=c\nOBJECT_SECRET_KEY=now\n", [])
    assert restored("OBJECT_SECRET_KEY=\n", current=current)[0] == "OBJECT_SECRET_KEY=\n", "emptied on purpose"
    assert restored(f"A=1\nNATS_PASSWORD={MASK}\n", current="A=2\n") == ("A=1\n#NATS_PASSWORD=\n", [])


def test_an_address_whose_secret_is_gone_is_named_by_its_line() -> None:
    shown = masked("# x\nFEEDS=https://ann:pw12@one/a,https://two/b\n")
    assert restored(shown, current="FEEDS=https://two/b, https://ann:pw99@one/a\n")[0] == (
        "# x\nFEEDS=https://ann:pw99@one/a,https://two/b\n"
    )
    _, problems = restored(shown, current="FEEDS=https://two/b\n")
    assert problems[0].startswith("line 2: the secret in FEEDS is not in the file any more")
