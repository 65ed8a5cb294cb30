"""Names that every file system keeps, whatever a list calls its songs."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.contracts.work import SongDownload
from common.errors import ConfigurationError
from common.storage.locators import check_locator
from downloader.service.layout import DEFAULT_LAYOUT, FIELDS, parse_layout
from downloader.service.naming import clean, fold, shorten

NASTY = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from('/\\:*?"<>|.\0 \n\t\u202e\u200f\u2066\u200d\ufeff\u0301\U0001f1e6\ud800'),
    ),
    max_size=400,
)
RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "CLOCK$",
    *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)),
}


def song(name: str = "Name", singers: tuple[str, ...] = ("Singer",), album: str | None = None) -> SongDownload:
    return SongDownload(
        job_id=1, source="feed", song_id=2**53 - 1, remote_id="r", name=name, singers=singers, album=album
    )


def check_component(name: str) -> None:
    assert name
    assert len(name.encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|\0')
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert name.split(".")[0].upper() not in RESERVED
    assert unicodedata.is_normalized("NFC", name)
    for char in name:
        assert unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert char not in "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(NASTY)
def test_a_cleaned_name_is_a_name_everywhere(text: str) -> None:
    cleaned = clean(text)
    assert cleaned not in (".", "..")
    check_component(shorten(cleaned, 255) or "_")


@given(NASTY)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(name=NASTY, singers=st.lists(NASTY, max_size=30), album=NASTY)
def test_every_part_of_a_locator_is_a_name_everywhere(name: str, singers: list[str], album: str) -> None:
    layout = parse_layout("{platform}/{album}/{singers} - {name}.{ext}")
    wanted = song(name, tuple(singers), album)
    for locator in layout.targets(wanted, ext="flac"):
        check_locator(locator)
        assert locator.endswith(".flac")
        parts = locator.split("/")
        assert len(parts) == 3
        for part in parts:
            check_component(part)
    assert str(wanted.song_id) in layout.targets(wanted, ext="flac")[1]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("AC/DC", "AC_DC"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\0b", "ab"),
        ("abc\u202egnp.exe", "abcgnp.exe"),
        ("CON", "CON_"),
        ("..", "_"),
        ("", "_"),
        ("Cafe\u0301", "Café"),
        ("周杰倫", "周杰倫"),
        ("  .hidden. ", "hidden"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_names(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_three_hundred_bytes_are_cut_at_a_whole_character_and_keep_the_extension() -> None:
    layout = parse_layout(DEFAULT_LAYOUT)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    plain, with_id = layout.targets(song(name=family * 20), ext="flac")
    stem = plain.rsplit("/", 1)[1].removesuffix(".flac").removeprefix("Singer - ")
    assert set(stem.split(family)) == {""}
    assert len(with_id.rsplit("/", 1)[1].encode()) <= 255
    assert with_id.endswith(".flac")


def test_many_singers_do_not_push_out_the_name() -> None:
    layout = parse_layout(DEFAULT_LAYOUT)
    plain, _ = layout.targets(song(name="The Name", singers=tuple(f"Singer {n}" for n in range(60))), ext="mp3")
    assert plain.endswith(" - The Name.mp3")


@given(NASTY, st.integers(0, 300))
def test_shortening_is_a_prefix_within_the_limit(text: str, limit: int) -> None:
    cleaned = clean(text)
    short = shorten(cleaned, limit)
    assert len(short.encode()) <= limit
    assert cleaned.startswith(short)


def test_names_that_a_file_system_confuses_are_told() -> None:
    assert fold("Café.flac") == fold("CAFE\u0301.FLAC")
    assert fold("a") != fold("b")


@pytest.mark.parametrize(
    "template",
    [
        "/{name}.{ext}",
        "../{name}.{ext}",
        "{platform}/../{name}.{ext}",
        "{platform}//{name}.{ext}",
        "{name}",
        "{name}.flac",
        "{platform}.{ext}",
        "{nonsense}/{name}.{ext}",
        "{name!r}.{ext}",
        "{name:>10}.{ext}",
        "{name.__class__}.{ext}",
        "{name[0]}.{ext}",
        "{name",
        "{ext}/{name}.{ext}",
        ".{name}/{name}.{ext}",
        "{platform}\\{name}.{ext}",
        "",
        "/".join(["{album}"] * 12) + "/{name}.{ext}",
    ],
)
def test_a_layout_that_cannot_work_is_refused_with_a_reason(template: str) -> None:
    with pytest.raises(ConfigurationError, match="DOWNLOAD_LAYOUT"):
        parse_layout(template)


def test_every_field_works() -> None:
    layout = parse_layout("/".join(f"{{{name}}}" for name in FIELDS if name != "ext") + " x.{ext}")
    plain, _ = layout.targets(song(album="Album"), ext="opus")
    assert plain == f"feed/Singer/Singer/Name/Album/{2**53 - 1} x.opus"


def test_missing_words_have_stand_ins() -> None:
    plain, _ = parse_layout("{album}/{first_singer} - {name}.{ext}").targets(song(singers=()), ext="mp3")
    assert plain == "Unknown Album/Unknown Artist - Name.mp3"
