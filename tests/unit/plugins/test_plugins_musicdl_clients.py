"""Which clients of musicdl may be used, and how the sources are set up from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigurationError
from common.settings import Settings
from musicdl_bridge import source
from musicdl_bridge.clients import CLIENTS, OPEN, PROTECTED, allowed_clients, list_links
from musicdl_bridge.source import MusicdlSettings, MusicdlSource

ALL = ",".join(CLIENTS)


def test_by_default_only_openly_licensed_ones() -> None:
    assert allowed_clients(MusicdlSettings().plugin_musicdl_clients) == tuple(CLIENTS[name] for name in OPEN)
    assert not {"netease", "qq", "kuwo", "migu", "qianqian"} & set(OPEN)


@pytest.mark.parametrize("name", [*sorted(PROTECTED), "AppleMusicClient", "YouTube Music", "TIDALMusicClient", "SODA"])
def test_protected_ones_are_never_used(name: str) -> None:
    with pytest.raises(ConfigurationError, match="never used"):
        allowed_clients(f"jamendo,{name}")


@pytest.mark.parametrize("name", ["tunehub", "KugouMusicClient", "os", "../worker", "BaseMusicClient"])
def test_ones_that_nobody_looked_at_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not among the clients that may be used"):
        allowed_clients(name)


@pytest.mark.parametrize("name", ["netease", "Netease", "NeteaseMusicClient", " netease "])
def test_the_librarys_own_names_are_understood(name: str) -> None:
    assert allowed_clients(name) == (CLIENTS["netease"],)


def test_every_name_of_the_library_is_understood() -> None:
    assert allowed_clients(",".join(one.library_name for one in CLIENTS.values())) == tuple(CLIENTS.values())


@pytest.mark.parametrize(
    ("written", "client", "list_id", "url"),
    [
        ("https://music.163.com/#/playlist?id=7583298906", "netease", "7583298906", "#/playlist?id=7583298906"),
        ("https://y.music.163.com/m/playlist?id=12&x=1", "netease", "12", "music.163.com/#/playlist?id=12"),
        ("https://y.qq.com/n/ryqq/playlist/8690", "qq", "8690", "/n/ryqq/playlist/8690"),
        ("http://www.kuwo.cn/playlist_detail/3563", "kuwo", "3563", "playlist_detail/3563"),
        ("https://www.jamendo.com/playlist/500/some-name.html", "jamendo", "500", "/playlist/500/some-name.html"),
        ("https://music.migu.cn/v5/#/playlist?playlistId=9&x=1", "migu", "9", "/v5/#/playlist?playlistId=9"),
        ("https://ccmixter.org/playlist/browse/77", "ccmixter", "browse", "/playlist/browse/77"),
    ],
)
def test_a_list_belongs_to_the_client_of_its_host(written: str, client: str, list_id: str, url: str) -> None:
    (link,) = list_links(written, tuple(CLIENTS.values()))
    assert (link.client.name, link.list_id) == (client, list_id) and link.url.endswith(url)


@pytest.mark.parametrize(
    "written",
    [
        "https://music.163.com.example.org/playlist?id=1",
        "https://example.org/playlist?id=1",
        "https://open.spotify.com/playlist/1",
        "file:///etc/passwd",
        "https://user:secret@music.163.com/playlist?id=1",
        "https://music.163.com/",
        "https://music.163.com/playlist?id=1%0a",
        "netease",
    ],
)
def test_other_addresses_are_refused(written: str) -> None:
    with pytest.raises(ConfigurationError, match="PLUGIN_MUSICDL_PLAYLISTS"):
        list_links(written, tuple(CLIENTS.values()))


def test_a_list_of_a_client_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Add netease there"):
        list_links("https://music.163.com/#/playlist?id=1", allowed_clients("jamendo"))


def test_a_toplist_is_named_as_one() -> None:
    netease = allowed_clients("netease")
    (link,) = list_links("toplist: https://music.163.com/#/discover/toplist?id=3778678", netease)
    assert link.toplist and (link.list_id, link.url) == ("3778678", "https://music.163.com/#/playlist?id=3778678")
    (link,) = list_links("https://music.163.com/#/playlist?id=3778678", netease)
    assert not link.toplist
    for wrong in ("chart:https://music.163.com/playlist?id=1", "toplist:", "toplist:toplist:https://music.163.com/1"):
        with pytest.raises(ConfigurationError, match="before the address of a toplist write toplist:"):
            list_links(wrong, netease)
    with pytest.raises(ConfigurationError, match="the list '1' of NetEase Cloud Music twice"):
        list_links("toplist:https://music.163.com/playlist?id=1,https://music.163.com/#/playlist?id=1", netease)


def test_each_toplist_is_a_pool_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGIN_MUSICDL_CLIENTS", "qq,jamendo")
    lists = [
        "toplist:https://y.qq.com/n/ryqq/playlist/26",
        "https://y.qq.com/n/ryqq/playlist/8",
        "toplist:https://y.qq.com/n/ryqq/playlist/4",
        "toplist:https://www.jamendo.com/playlist/500/hot",
    ]
    monkeypatch.setenv("PLUGIN_MUSICDL_PLAYLISTS", ",".join(lists))

    def pools(name: str) -> dict[tuple[str, str, str], list[str]]:
        one = made(settings, name)
        return {
            (pool.external_id, pool.kind, pool.name): [
                ref.remote_id for ref in one.playlists(pool.external_id, progress=lambda done, total=None: None)
            ]
            for pool in one.pools()
        }

    assert pools("qq") == {
        ("playlists", "user", "QQ Music playlists"): ["8"],
        ("26", "toplist", "QQ Music toplists"): ["26"],
        ("4", "toplist", "QQ Music toplists"): ["4"],
    }
    assert pools("musicdl") == {("jamendo/500", "toplist", "Jamendo toplists"): ["jamendo/500"]}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return Settings(root_dir=tmp_path)


def made(settings: Settings, name: str) -> MusicdlSource:
    found: MusicdlSource = getattr(source, name)(settings)
    return found


def test_an_old_name_is_set_up_only_where_a_person_lists_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("netease", "qq", "kuwo", "migu", "qianqian"):
        health = made(settings, name).health()
        assert not health.configured and name in health.message and "PLUGIN_MUSICDL_CLIENTS" in health.message
        assert list(made(settings, name).pools()) == []
    assert made(settings, "musicdl").health().configured
    monkeypatch.setenv("PLUGIN_MUSICDL_CLIENTS", "netease")
    monkeypatch.setenv("PLUGIN_MUSICDL_PLAYLISTS", "https://music.163.com/#/playlist?id=1")
    assert made(settings, "netease").health().configured and len(list(made(settings, "netease").pools())) == 1
    assert not made(settings, "musicdl").health().configured and not list(made(settings, "musicdl").pools())


def test_wrong_settings_stop_the_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGIN_MUSICDL_CLIENTS", "jamendo,spotify")
    with pytest.raises(ConfigurationError, match="spotify"):
        made(settings, "netease")
    monkeypatch.setenv("PLUGIN_MUSICDL_CLIENTS", ALL)
    monkeypatch.setenv("PLUGIN_MUSICDL_TIMEOUT_SECONDS", "0")
    with pytest.raises(ConfigurationError, match="PLUGIN_MUSICDL_TIMEOUT_SECONDS"):
        made(settings, "musicdl")


def test_neither_the_bridge_nor_the_library_comes_with_us() -> None:
    root = Path(__file__).parents[3]
    ours = [
        root / name for name in ("requirements.in", "requirements.lock", "Dockerfile", "compose.yaml", ".dockerignore")
    ]
    ours += [*root.glob("libs/*/pyproject.toml"), *root.glob("services/*/pyproject.toml")]
    assert len(ours) > 10
    assert [path.name for path in ours if "musicdl" in path.read_text() or "!plugins" in path.read_text()] == []


def test_nothing_is_started_or_written_before_it_is_needed(settings: Settings, tmp_path: Path) -> None:
    made(settings, "musicdl")
    assert list(tmp_path.iterdir()) == []
