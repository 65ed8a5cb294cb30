from pathlib import Path

import pytest

from cli import nats_config
from common.contracts.streams import CATALOG, STREAMS
from common.errors import ConfigurationError


def render(version: nats_config.Version = (2, 9, 10), password: str = "secret") -> str:
    return nats_config.render(
        host="127.0.0.1",
        port=4222,
        store=Path("/data/nats/jetstream"),
        user="services",
        password=password,
        reader_password="reading",
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


def test_the_reader_may_hear_every_kind_of_fact() -> None:
    catalog = next(spec for spec in STREAMS if spec.name == CATALOG)
    assert {".".join(subject.split(".")[:2]) for subject in catalog.subjects} == {
        fact.removesuffix(".>") for fact in nats_config.FACTS
    }


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
