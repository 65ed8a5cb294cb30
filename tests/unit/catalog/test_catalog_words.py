"""The words of the example catalog: what is stored is found, and nothing that is asked does harm."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from public_catalog.words import MAX_QUERY_CHARS, MAX_QUERY_WORDS, asked, fold, stored


def finds(title: str, query: str, *, whole: bool = False) -> bool:
    """Whether FTS5 finds the title by the query."""
    found = asked(query)
    if found is None:
        return False
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE w USING fts5(name, content='', tokenize='ascii', prefix='1 2 3')")
    connection.execute("INSERT INTO w(rowid, name) VALUES (1, ?)", (stored(title),))
    expression = found.whole if whole else found.begun
    hits = connection.execute("SELECT count(*) FROM w WHERE w MATCH ?", (expression,)).fetchone()[0]
    connection.close()
    return bool(hits)


@pytest.mark.parametrize(
    ("title", "query"),
    [
        ("Café del Mar", "cafe"),
        ("Café del Mar", "CAFÉ MAR"),
        ("Cafe\u0301 del Mar", "café"),
        ("Smørrebrød", "smorrebrod"),
        ("Straße", "STRASSE"),
        ("ＡＢＣ ｄｅｆ", "abc def"),
        ("Ночной город", "ГОРОД ноч"),
        ("青花瓷", "青花"),
        ("青花瓷", "花瓷"),
        ("青花瓷", "青花瓷"),
        ("青花瓷", "瓷"),
        ("青花瓷", "花"),
        ("月亮代表我的心", "代表我的"),
        ("夜空中最亮的星 (Live)", "最亮 live"),
        ("G.E.M.邓紫棋", "邓紫"),
        ("さくらの歌", "くら"),
        ("ガラスの少年", "ガラス"),
        ("봄날의 노래", "봄날"),
        ("𠀀𠀁𠀂", "𠀁𠀂"),
        ("Don't Stop", "don t"),
        ("AC/DC", "ac/dc"),
        ("99 Luftballons", "99 luft"),
    ],
)
def test_what_people_type_finds_the_title(title: str, query: str) -> None:
    assert finds(title, query)


@pytest.mark.parametrize(
    ("title", "query"),
    [
        ("青花瓷", "青瓷"),
        ("青 花", "青花"),
        ("Summer", "summers"),
        ("Summer", "umm"),
        ("かき", "がき"),
        ("花瓷", "青花瓷"),
    ],
)
def test_what_the_title_does_not_have_does_not_find_it(title: str, query: str) -> None:
    assert not finds(title, query)


def test_whole_words_are_told_from_begun_ones() -> None:
    assert finds("Summer Rain", "summer rain", whole=True)
    assert not finds("Summer Rain", "summ", whole=True)


@given(st.text(max_size=60))
@example("\0")
@example('" OR name:* NEAR(a b, 3) ^x -y {z} (')
@example("ǅ ﷺ İ ŉ \u0345")
def test_any_text_is_found_by_itself_and_by_its_parts(text: str) -> None:
    words = stored(text).split()
    assert finds(text, text) == bool(words)
    folded = fold(text)
    for start in range(0, len(folded), 7):
        part = folded[start : start + 2]
        finds("anything", part)  # never a syntax error


@given(st.text(alphabet="青花瓷月亮代表我的心夜空中最", min_size=2, max_size=12), st.data())
def test_every_two_characters_of_a_chinese_title_find_it(title: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(title) - 2))
    length = data.draw(st.integers(2, len(title) - start))
    assert finds(title, title[start : start + length], whole=True)


def test_a_query_of_any_length_costs_no_more_than_a_long_one() -> None:
    huge = asked("word " * 2_000)
    assert huge is not None
    assert huge.shortened
    assert len(huge.text) <= MAX_QUERY_CHARS
    assert huge.begun.count('"') // 2 <= MAX_QUERY_WORDS


@pytest.mark.parametrize("text", ["", "  ", "\0\0", "!?*", '"', "🎵🎵"])
def test_a_query_without_words_asks_for_nothing(text: str) -> None:
    assert asked(text) is None
