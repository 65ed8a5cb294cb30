"""Random histories of a catalog, for properties that hold for all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from common.catalog import ids
from common.contracts.facts import AudioFormat, BackendDefined, Fact, FileTags, SongDescribed, SongPinned
from common.contracts.names import BackendKind
from tests.support.catalog_facts import PLATFORM, playlist, pool, song, stored

NAMES = ("a", "b", "c", "d")
LISTS = ("p", "q")
_names = st.sampled_from(NAMES)
_removed = st.sampled_from((False, False, False, True))
_words = st.sampled_from(("x", "ÿ", "周", "it's", ""))


@st.composite
def steps(draw: st.DrawFn) -> list[Fact]:
    """One thing that happens: one fact, or a playlist's pages."""
    kind = draw(
        st.sampled_from(("song", "song", "stored", "stored", "described", "pinned", "list", "list", "pool", "backend"))
    )
    key, removed, word = draw(_names), draw(_removed), draw(_words)
    match kind:
        case "song":
            return [song(key, name=word, size=draw(st.integers(0, 9)), removed=removed, metadata={"k": word})]
        case "stored":
            variant = draw(st.sampled_from(("main", "flac")))
            backend = draw(st.sampled_from(("library", "objects", "far")))
            format = AudioFormat(ext=draw(st.sampled_from(("mp3", "flac"))), mime="audio/x")
            size = draw(st.integers(0, 9))
            tags = FileTags(title=word or None)
            return [stored(key, backend, variant=variant, size=size, format=format, tags=tags, removed=removed)]
        case "described":
            return [SongDescribed(song_id=ids.song_id(PLATFORM, key), name=word or None, removed=removed)]
        case "pinned":
            return [SongPinned(song_id=ids.song_id(PLATFORM, key), name=word or None, removed=removed)]
        case "list":
            entries = draw(st.lists(_names, max_size=7))
            version = draw(st.integers(1, 2**40))
            pages = playlist(draw(st.sampled_from(LISTS)), entries, version=version, page_size=2, description=word)
            return [page.model_copy(update={"removed": removed}) for page in pages]
        case "pool":
            return [pool(key, draw(st.lists(st.sampled_from(LISTS), max_size=3)), removed=removed)]
        case _:
            return [
                BackendDefined(
                    backend=draw(st.sampled_from(("objects", "far"))),
                    kind=BackendKind.OBJECT_STORAGE,
                    public_base_url=f"https://{len(word)}/",
                    removed=removed,
                )
            ]
