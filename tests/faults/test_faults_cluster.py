"""A cluster of three nats-servers: its leader is killed in the middle of a job, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.bus.connection import Bus
from common.bus.streams import JOBS_STREAM, ensure_streams
from common.contracts.streams import CATALOG, STATUS, WORK
from common.errors import ConfigurationError
from common.settings import Settings
from tests.faults.test_faults_main_job import catalog_equals_replay, each_file_once, music  # noqa: F401 - fixture
from tests.support.collecting import eventually
from tests.support.nats import NatsServer
from tests.support.nats_cluster import NatsCluster
from tests.support.stack import Stack

STREAMS = (CATALOG, WORK, STATUS, JOBS_STREAM)
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three servers of this test's own."""
    servers = NatsCluster(tmp_path / "cluster")
    servers.start()
    yield servers
    servers.stop()


def settings_of(cluster: NatsCluster, tmp_path: Path) -> Settings:
    return Settings(
        root_dir=tmp_path / "data",
        nats_url=cluster.url,
        nats_user="operator",
        nats_password=cluster.passwords["operator"],
    )


async def has_three_copies(bus: Bus, consumer: str) -> bool:
    """Whether a consumer of WORK has a leader and two others that are level with it."""
    cluster = (await bus.js.consumer_info(WORK, consumer)).cluster
    others = cluster.replicas or [] if cluster else []
    return cluster is not None and bool(cluster.leader) and len(others) == 2 and all(one.current for one in others)


@pytest.mark.parametrize("stream", [WORK, CATALOG])
def test_the_leader_killed_in_the_middle_of_a_job(
    tmp_path: Path,
    music: Path,  # noqa: F811
    cluster: NatsCluster,
    stream: str,
) -> None:
    stack = Stack(
        tmp_path, cluster, IMPORT_MODE="copy", NATS_REPLICAS="3", LOCAL_MEDIA_IMPORT_PATH=str(music), LEASE_SECONDS="6"
    )
    try:
        stack.start_all("console", "collector", "downloader", "exporter")
        sources = sorted(music.rglob("*.wav"))
        job = stack.job(sources=["local"])
        stack.until(lambda: len(stack.files()) >= 5, seconds=60, what="the first files")
        assert len(stack.files()) < len(sources), "the job was over before the leader was killed"
        leader = cluster.leader(stream)
        cluster.kill(leader)
        assert stack.wait_job(job, seconds=150) == "completed", stack.items(job)
        each_file_once(stack, sources)
        catalog_equals_replay(stack, len(sources))
        cluster.start_one(leader)
        cluster.until_level(stream)
    finally:
        stack.stop()


async def test_one_copy_becomes_three_and_the_consumers_with_it(tmp_path: Path, cluster: NatsCluster) -> None:
    bus = await Bus.connect(settings_of(cluster, tmp_path), service="test", instance="one")
    try:
        await ensure_streams(bus)
        await bus.js.add_consumer(WORK, durable_name="lane", filter_subject="song.download.requested.1.>")
        await bus.js.publish("song.download.requested.1.local.5", b"{}")
        assert {(await bus.js.stream_info(name)).config.num_replicas for name in STREAMS} == {1}
        await ensure_streams(bus, replicas=3)
        for name in STREAMS:
            info = await bus.js.stream_info(name)
            assert info.config.num_replicas == 3
        await eventually(lambda: has_three_copies(bus, "lane"), "the consumer to have three copies")
        assert (await bus.js.consumer_info(WORK, "lane")).num_pending == 1
        # Who restores a backup knows nothing of copies, and leaves them as they are.
        await ensure_streams(bus)
        assert (await bus.js.stream_info(WORK)).config.num_replicas == 3
    finally:
        await bus.close()


async def test_three_copies_on_one_server_are_refused_with_a_sentence(nats_server: NatsServer, tmp_path: Path) -> None:
    settings = Settings(
        root_dir=tmp_path, nats_url=nats_server.url, nats_user="operator", nats_password=nats_server.password
    )
    bus = await Bus.connect(settings, service="test", instance="one")
    try:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"NATS_REPLICAS=1.*docs/cluster\.md"):
                await ensure_streams(bus, replicas=3)
            await ensure_streams(bus)  # and on streams that exist
    finally:
        await bus.close()
