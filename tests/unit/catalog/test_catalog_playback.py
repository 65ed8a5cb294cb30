"""Where the example catalog plays from: the real origin believes its tokens, and what cannot be played says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.tokens import TokenError, read_origin_token, verify_origin_token
from public_catalog.catalog import File, Song
from public_catalog.errors import SettingsError
from public_catalog.playback import STREAM_PATH, Origin, Player, site_of
from public_catalog.settings import read

SECRET = "a secret of the tests that is long enough to be one"


def file(**fields: object) -> File:
    values = {"quality": "high", "ext": "flac", "size": 1, "backend_type": "filesystem", "backend": "library"}
    values |= {"locator": "qq/周杰倫/晴天 '1'.flac", "public_url": None, "primary": True, **fields}
    return File(**values)  # type: ignore[arg-type]


def song(*files: File) -> Song:
    return Song(song_id=1, name="晴天", singers="", album="", platform="qq", seconds=None, files=files)


BUCKET = file(backend_type="object_storage", backend="bucket", public_url="https://files.example.org:8443/a%20b.flac")


def origin(secret: str = SECRET, seconds: float = 60) -> Origin:
    return Origin("https://music.example.org/", secret, seconds=seconds)


def test_the_origin_believes_a_token_until_its_time_is_over() -> None:
    address = origin().address(file(backend="local"))
    url, token = address[: -len(address.rpartition("/")[2])], address.rpartition("/")[2]
    assert url == f"https://music.example.org{STREAM_PATH}"
    now = time.time()
    claims = verify_origin_token(SECRET, token, now)
    assert (claims.locator, claims.backend) == ("qq/周杰倫/晴天 '1'.flac", "local")
    assert now + 50 < claims.expires_at <= now + 61
    with pytest.raises(TokenError):
        verify_origin_token(SECRET, token, now + 61)
    # Also while the origin changes its secret.
    assert read_origin_token(["another secret that is long enough to be one!", SECRET], token) == claims
    with pytest.raises(TokenError):
        read_origin_token("another secret that is long enough to be one!", token)


def test_public_files_come_first_and_each_keeps_its_key() -> None:
    places = Player(origin()).places(song(file(), BUCKET))

    assert [place.site for place in places] == ["https://files.example.org:8443", "https://music.example.org"]
    again = Player(origin()).places(song(BUCKET, file(), file(locator="other.mp3", ext="mp3")))
    assert {place.key for place in places} < {place.key for place in again}
    assert Player(origin()).find(song(file(), BUCKET), places[1].key) == places[1]
    assert Player(origin()).find(song(file(), BUCKET), "../../etc/passwd") is None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ((), "has no file of it yet"),
        ((file(ext="ape"), file(ext="dsf")), "It is kept as APE and DSF, which browsers do not play."),
        ((file(ext=""),), "a file of unknown kind"),
        ((file(),), "private library, which this catalog has no key to"),
        ((file(backend_type="object_storage", backend="bucket"),), "no address that a browser could open"),
        ((file(public_url="javascript:alert(1)", backend_type="object_storage"),), "no address that a browser"),
    ],
)
def test_what_cannot_be_played_says_why(files: tuple[File, ...], reason: str) -> None:
    player = Player()
    assert player.places(song(*files)) == []
    assert reason in player.reason(song(*files))


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://a.example/x?y", "https://a.example"),
        ("http://127.0.0.1:9000/x", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/x", "http://[::1]:9000"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//a.example/x", None),
        ("https://a.example;script-src *", None),
        ("https://a.example\r\nX: y/", None),
        ("https://a b/", None),
        ("https://user:password@a.example/", None),
        ("https://[::1", None),
        ("", None),
    ],
)
def test_only_plain_sites_get_into_the_policy_of_a_page(url: str, site: str | None) -> None:
    # urlsplit drops line ends, as browsers do; what is left must still be one plain site.
    found = site_of(url)
    assert found == site or (found is not None and "\n" in url and found.isascii() and " " not in found)


def test_a_short_secret_is_refused_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match="ORIGIN_TOKEN_SECRET"):
        origin(secret="short")
    with pytest.raises(SettingsError, match="URL"):
        Origin("ftp://music.example.org", SECRET, seconds=1)


def test_the_secret_comes_from_the_environment_or_a_file_of_either_form(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(f"{SECRET}\n")
    (tmp_path / "secrets.env").write_text(f"NATS_PASSWORD=other\nORIGIN_TOKEN_SECRET='{SECRET}'\n")
    given = ["--mirror", "m", "--origin", "https://music.example.org"]
    assert read(["--mirror", "m"], {}).origin is None
    for arguments, environment in (
        (given, {"ORIGIN_TOKEN_SECRET": SECRET}),
        ([*given, "--origin-secret-file", str(tmp_path / "plain")], {}),
        (given, {"ORIGIN_TOKEN_SECRET_FILE": str(tmp_path / "secrets.env")}),
    ):
        made = read(arguments, environment).origin
        assert made is not None
        verify_origin_token(SECRET, made.address(file()).rpartition("/")[2], time.time())
    for arguments, environment in (
        (given, {}),
        (["--mirror", "m"], {"ORIGIN_TOKEN_SECRET": SECRET}),
        ([*given, "--origin-secret-file", str(tmp_path / "none")], {}),
        ([], {}),
        (["--mirror", "m", "--poll", "0"], {}),
        (["--mirror", "m", "--poll", "1e300"], {}),
        (["--mirror", "m", "--poll", "nan"], {}),
        ([*given, "--origin-seconds", "inf"], {"ORIGIN_TOKEN_SECRET": SECRET}),
        (["--mirror", "m", "--port", "65536"], {}),
    ):
        with pytest.raises(SettingsError):
            read(arguments, environment)
