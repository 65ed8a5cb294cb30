from pathlib import Path

import pytest

from cli import nats_config
from cli.nats_config_users import USERS
from common.contracts.streams import CATALOG, STREAMS
from common.errors import ConfigurationError
from common.secret_files import ACCOUNTS


def render(version: nats_config.Version = (2, 9, 10), password: str = "secret", host: str = "127.0.0.1") -> str:
    return nats_config.render(
        host=host,
        port=4222,
        store=Path("/data/nats/jetstream"),
        passwords={**dict.fromkeys(ACCOUNTS, "another"), "console": password},
        version=version,
    )


def test_sync_always_is_written_only_for_servers_that_know_it() -> None:
    assert "sync_interval" not in render((2, 9, 25))
    assert "sync_interval: always" in render((2, 10, 0))
    assert "sync_interval: always" in render((2, 14, 5))


def test_quotes_in_a_password_stay_inside_it() -> None:
    assert '"a\\"b\\\\c"' in render(password='a"b\\c')


def test_a_line_break_in_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        render(password="geheim\nlisten: 0.0.0.0")
    assert "geheim" not in refused.value.message


def test_every_account_has_a_user_and_the_other_way_round() -> None:
    assert {user.name for user in USERS} == set(ACCOUNTS)


def test_the_reader_may_hear_every_kind_of_fact() -> None:
    reader = next(user for user in USERS if user.name == "reader")
    catalog = next(spec for spec in STREAMS if spec.name == CATALOG)
    for subject in catalog.subjects:
        assert f"{'.'.join(subject.split('.')[:2])}.>" in (reader.subscribe or ())


def test_the_page_for_strangers_tells_what_the_reader_may() -> None:
    page = (Path(__file__).parents[3] / "docs" / "subscribing.md").read_text(encoding="utf-8")
    reader = next(user for user in USERS if user.name == "reader")
    for subject in {*(reader.publish or ()), *(reader.subscribe or ())} - {"_INBOX_reader.>"}:
        assert f"`{subject}`" in page, subject


def test_an_address_of_six_is_put_in_brackets() -> None:
    assert 'listen: "[::1]:4222"' in render(host="::1")


@pytest.mark.parametrize(
    ("text", "address"), [("0.0.0.0:4222", ("0.0.0.0", 4222)), ("[::]:4222", ("::", 4222)), ("a:-1", None), ("a", None)]
)
def test_an_address_to_listen_on(text: str, address: tuple[str, int] | None) -> None:
    if address is not None:
        assert nats_config.parse_listen(text) == address
        return
    with pytest.raises(ConfigurationError, match="write it like"):
        nats_config.parse_listen(text)


@pytest.mark.parametrize("text", ["2.10.29", "v2.10.29", " 2.10.29\n"])
def test_a_version_as_people_write_it(text: str) -> None:
    assert nats_config.parse_version(text) == (2, 10, 29)


@pytest.mark.parametrize("text", ["2.10", "latest", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write it like"):
        nats_config.parse_version(text)


def test_streams_of_an_older_version_change_hands_once(tmp_path: Path) -> None:
    old = tmp_path / "jetstream" / "$G" / "streams"
    old.mkdir(parents=True)
    assert nats_config.take_over_store(tmp_path)
    assert (tmp_path / "jetstream" / "MUSIC" / "streams").is_dir()
    old.mkdir(parents=True)
    assert not nats_config.take_over_store(tmp_path)
    assert old.is_dir()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://127.0.0.1:4222", ("127.0.0.1", 4222)),
        ("nats://localhost", ("localhost", 4222)),
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("nats://a:1, nats://b:2", ("a", 1)),
    ],
)
def test_the_listening_address_is_the_first_of_nats_url(url: str, address: tuple[str, int]) -> None:
    assert nats_config.listen_address(url) == address
