"""Which clients of musicdl may be used: those that were looked at, and give plain files without an account."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from common.errors import ConfigurationError, PermanentError
from common.settings import split_list
from sources.urls import has_userinfo, normalize

CLIENTS_SETTING = "PLUGIN_MUSICDL_CLIENTS"
PLAYLISTS_SETTING = "PLUGIN_MUSICDL_PLAYLISTS"
TOPLIST = "toplist:"
"""Before the address of a list: it is a toplist, and stands among those of a snapshot."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client. ``library_name``: the class in musicdl; ``hosts``: where its lists lie, none where it reads none.

    ``open``: what it finds stands under open licences, or is given away by who made it. ``asks_leave``: it finds
    other songs too, and says of each whether it may be downloaded. ``joined``: what stands between several singers.
    ``cookies``: given to the library, so that it asks the service itself, as nobody.
    ``list_url``: how the library wants to be told of a list, where it does not take every spelling.
    """

    name: str
    library_name: str
    title: str
    open: bool = False
    asks_leave: bool = False
    hosts: tuple[str, ...] = ()
    joined: str | None = None
    cookies: Mapping[str, str] = field(default_factory=dict, hash=False)
    list_url: str = ""


ANYBODY = {"os": "pc"}
"""Without cookies the library takes an account of somebody's that it brings along, or asks third parties' servers."""

CLIENTS = {
    client.name: client
    for client in (
        Client(name="jamendo", library_name="JamendoMusicClient", title="Jamendo", open=True, hosts=("jamendo.com",)),
        Client(name="fma", library_name="FMAMusicClient", title="Free Music Archive", open=True),
        Client(
            name="ccmixter", library_name="CCMixterMusicClient", title="ccMixter", open=True, hosts=("ccmixter.org",)
        ),
        Client(name="opengameart", library_name="OpenGameArtMusicClient", title="OpenGameArt", open=True),
        Client(
            name="wikimedia-commons", library_name="WikimediaCommonsMusicClient", title="Wikimedia Commons", open=True
        ),
        Client(
            name="audius",
            library_name="AudiusMusicClient",
            title="Audius",
            open=True,
            asks_leave=True,
            hosts=("audius.co",),
        ),
        Client(
            name="netease",
            library_name="NeteaseMusicClient",
            title="NetEase Cloud Music",
            hosts=("music.163.com",),
            joined=", ",
            cookies=ANYBODY,
            list_url="https://music.163.com/#/playlist?id={}",
        ),
        Client(
            name="qq",
            library_name="QQMusicClient",
            title="QQ Music",
            hosts=("y.qq.com", "music.qq.com"),
            joined=", ",
            cookies=ANYBODY,
        ),
        Client(
            name="kuwo",
            library_name="KuwoMusicClient",
            title="Kuwo Music",
            hosts=("kuwo.cn",),
            joined="&",
            cookies=ANYBODY,
        ),
        Client(
            name="migu",
            library_name="MiguMusicClient",
            title="Migu Music",
            hosts=("migu.cn",),
            joined=", ",
            list_url="https://music.migu.cn/v5/#/playlist?playlistId={}",
        ),
        Client(
            name="qianqian",
            library_name="QianqianMusicClient",
            title="Qianqian Music",
            hosts=("music.91q.com", "music.taihe.com"),
            joined=", ",
        ),
    )
}
OPEN = tuple(name for name, client in CLIENTS.items() if client.open)
PROTECTED = frozenset({"apple", "deezer", "moov", "qobuz", "soda", "soundcloud", "spotify", "tidal", "youtube"})
"""They undo a protection of the files, use the keys of a device, or log in with accounts of others."""


def plain_name(written: str) -> str:
    """``NeteaseMusicClient``, ``Netease`` and ``netease`` are one."""
    name = re.sub(r"[ _-]?music(client)?$", "", written.strip().lower())
    return {"wikimediacommons": "wikimedia-commons"}.get(name, name)


def allowed_clients(setting: str) -> tuple[Client, ...]:
    """The clients that PLUGIN_MUSICDL_CLIENTS lists. Raises :class:`ConfigurationError` for those never allowed."""
    allowed = []
    for written in split_list(setting):
        name = plain_name(written)
        if name in PROTECTED:
            raise ConfigurationError(
                f"{CLIENTS_SETTING} names {written[:64]!r}. It is never used: its files are protected against copying, "
                "or need somebody's account. Take it out of the list."
            )
        if name not in CLIENTS:
            raise ConfigurationError(
                f"{CLIENTS_SETTING} names {written[:64]!r}, which is not among the clients that may be used: "
                f"{', '.join(CLIENTS)}. Correct the list."
            )
        allowed.append(CLIENTS[name])
    return tuple(dict.fromkeys(allowed))


@dataclass(frozen=True, kw_only=True)
class ListLink:
    """A list of songs that a person named. ``list_id``: the service's own id of it."""

    client: Client
    list_id: str
    url: str
    toplist: bool = False


def list_links(setting: str, allowed: Sequence[Client]) -> tuple[ListLink, ...]:
    """The lists of PLUGIN_MUSICDL_PLAYLISTS. Raises :class:`ConfigurationError` for one that cannot be read."""
    links: dict[tuple[str, str], ListLink] = {}
    for written in split_list(setting):
        address = written.removeprefix(TOPLIST).strip()
        try:
            url = normalize(address.replace("/#/", "/", 1))
        except PermanentError:
            url = ""
        host = urlsplit(url).hostname or ""
        client = next((one for one in CLIENTS.values() if any(_within(host, known) for known in one.hosts)), None)
        list_id = _list_id(url)
        if client is None or list_id is None or has_userinfo(address):
            where = ", ".join(one.title for one in CLIENTS.values() if one.hosts)
            raise ConfigurationError(
                f"{PLAYLISTS_SETTING} names {written[:200]!r}, which is no address of a list at one of these: {where}. "
                f"Correct it; before the address of a toplist write {TOPLIST} and nothing else."
            )
        if client not in allowed:
            raise ConfigurationError(
                f"{PLAYLISTS_SETTING} names a list of {client.title}, which {CLIENTS_SETTING} does not allow. "
                f"Add {client.name} there, or take the list out."
            )
        link = ListLink(
            client=client,
            list_id=list_id,
            url=client.list_url.format(list_id) or url,
            toplist=address != written,
        )
        if links.setdefault((client.name, list_id), link).toplist != link.toplist:
            raise ConfigurationError(
                f"{PLAYLISTS_SETTING} names the list {list_id[:80]!r} of {client.title} twice, once as a toplist and "
                "once not. Take one of them out."
            )
    return tuple(links.values())


def _within(host: str, known: str) -> bool:
    return host == known or host.endswith(f".{known}")


def _list_id(url: str) -> str | None:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = (query.get("id") or query.get("playlistId") or [""])[0]
    # Some write the list's name after its id.
    place = re.search(r"/playlist/([^/]+)", parts.path)
    last = place[1] if place else parts.path.rstrip("/").rpartition("/")[2]
    found = named or last.removesuffix(".html").removesuffix(".htm")
    return found if re.fullmatch(r"[A-Za-z0-9._~%-]{1,200}", found) else None
