"""The numbers of a running system: every declared one is there, true, bounded, and what dashboard and alerts use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.metrics_names import NUMBERS, PREFIX
from tests.support.audio import make_audio
from tests.support.nats import NatsServer
from tests.support.stack import SERVICES, Stack, free_port

REPOSITORY = Path(__file__).parents[3]
DASHBOARD = REPOSITORY / "deploy/grafana/music-cloud.json"
ALERTS = REPOSITORY / "deploy/prometheus/alerts.yml"
SONGS = 6
TITLE = "Unmistakable"
QUIET = {
    "music_cloud_problem",
    "music_cloud_held_seconds",
    "music_cloud_object_store_up",
    "music_cloud_queue_items",
    "music_cloud_queue_age_seconds",
    "music_cloud_items",
    "music_cloud_snapshot_upload_timestamp_seconds",
}
"""Numbers without a sample when all is well, no object store is set up and no job is under way."""


class Scraped:
    """What one service told."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    @property
    def names(self) -> set[str]:
        """Names as they are declared."""
        return {
            f"{family.name}_total" if family.type == "counter" else family.name for family in self.families.values()
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that have these labels."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None


class Running:
    """A stack that has done its job, and where its services tell their numbers."""

    def __init__(self, stack: Stack, ports: dict[str, int]) -> None:
        self.stack = stack
        self.ports = ports

    def scrape(self, service: str) -> Scraped:
        answer = httpx.get(f"http://127.0.0.1:{self.ports[service]}/metrics", trust_env=False, timeout=10)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return Scraped(answer.text)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All services; a full job with one file that is no music; one song streamed, one token refused; one pack."""
    directory = tmp_path_factory.mktemp("metrics")
    music = directory / "music"
    for number in range(SONGS):
        make_audio(music / f"album/{number}.wav", ext="wav", seconds=0.3, title=f"{TITLE} {number}", artist="A")
    (music / "album/broken.wav").write_bytes((music / "album/0.wav").read_bytes()[:2000])
    server = NatsServer(directory / "nats")
    server.start()
    stack = Stack(directory, server, IMPORT_MODE="copy", LOCAL_MEDIA_IMPORT_PATH=str(music), SOURCES="local")
    origin = httpx.Client(base_url=f"http://127.0.0.1:{stack.origin_port}", trust_env=False)
    running = Running(stack, {service: free_port() for service in SERVICES})
    try:
        for service, port in running.ports.items():
            stack.start(service, HEALTH_PORT=str(port))
        stack.until(partial(_answers, stack.http, "/healthz"), seconds=30, what="the console to answer")
        stack.until(partial(_answers, origin, "/"), seconds=30, what="the origin to answer")
        job = stack.job("full")
        stack.wait_job(job)
        _stream_a_song(stack, origin, job)
        stack.until(
            lambda: (running.scrape("exporter").value("snapshot_rows", kind="files") or 0) >= SONGS,
            seconds=30,
            what="the snapshot",
        )
        _fetch_a_pack(stack)
        yield running
    finally:
        origin.close()
        stack.stop()
        server.stop()


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        client.get(path)
    except httpx.TransportError:
        return False
    return True


def _stream_a_song(stack: Stack, origin: httpx.Client, job: int) -> None:
    stored = stack.items(job, stage="download", state="succeeded")
    locator = next(item["result"]["locator"] for item in stored if item["result"].get("locator"))
    token = stack.http.post("/api/v1/tokens", json={"locator": locator}).json()["token"]
    path = f"/api/private-origin/stream/{token}"
    assert origin.get(path).status_code == 200
    assert origin.get(path, headers={"Range": "bytes=0-9"}).status_code == 206
    assert origin.get("/api/private-origin/stream/no-token").status_code == 401


def _fetch_a_pack(stack: Stack) -> None:
    catalog = f"http://127.0.0.1:{stack.exporter_port}/music-cloud/catalog"
    with httpx.Client(trust_env=False, timeout=10) as mirror:
        newest = mirror.get(f"{catalog}/refs").json()["snapshot_id"]
        answer = mirror.post(f"{catalog}/fetch", json={"want": [newest]}).json()
        assert mirror.get(answer["mpack_url"]).status_code == 200


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_tells_exactly_what_is_declared_of_it(running: Running, service: str) -> None:
    scraped = running.scrape(service)
    told = {name for name in scraped.names if name.startswith(PREFIX)}
    assert told == {number.name for number in NUMBERS if service in number.services}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= scraped.names


@pytest.mark.parametrize("service", SERVICES)
def test_labels_are_those_declared_and_hold_no_song_path_or_job(running: Running, service: str) -> None:
    declared = {number.name: number for number in NUMBERS}
    scraped = running.scrape(service)
    for family in scraped.families.values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            if name in declared:
                assert set(sample.labels) - {"le"} == {"service", *declared[name].labels}, sample
                assert sample.labels["service"] == service
    assert TITLE not in scraped.text
    assert str(running.stack.directory) not in scraped.text
    assert ".wav" not in scraped.text


def test_the_numbers_are_true(running: Running) -> None:
    """After one job of six songs and a file that is none, one song played whole and in part, one token refused."""
    downloader, console, exporter = (running.scrape(name) for name in ("downloader", "console", "exporter"))
    assert downloader.value("item_tries_total", stage="download", source="local", outcome="succeeded") == SONGS
    assert downloader.value("item_duration_seconds_count", stage="download") == downloader.value("item_tries_total")
    assert (downloader.value("moved_bytes_total", stage="download") or 0) > SONGS * 10_000
    assert downloader.value("items_in_hand", stage="download") == 0
    assert (downloader.value("disk_free_bytes", folder="library") or 0) > 0
    assert downloader.value("disk_reserve_bytes", folder="library") == 512 * 1024**2

    collector = running.scrape("collector")
    assert (collector.value("item_tries_total", outcome="succeeded") or 0) >= 2
    assert collector.value("source_up", source="local") == 1

    ended = (console.value("jobs", state="completed") or 0) + (
        console.value("jobs", state="completed_with_errors") or 0
    )
    assert ended == 1
    assert console.value("jobs", state="running") == 0
    assert (console.value("stream_messages", stream="CATALOG") or 0) >= 2 * SONGS
    # A log line or a status may be on its way at any moment; they do not stay there.
    running.stack.until(
        lambda: running.scrape("console").value("projection_lag_messages", projection="ledger") == 0,
        seconds=20,
        what="the ledger to have everything",
    )
    assert (console.value("http_requests_total", method="POST", status="202") or 0) >= 1

    assert exporter.value("snapshot_rows", kind="files") == SONGS
    assert 0 <= time.time() - (exporter.value("snapshot_timestamp_seconds") or 0) < 120
    assert (exporter.value("snapshot_size_bytes") or 0) > 0
    assert (exporter.value("snapshot_sequence") or 0) > 0
    assert exporter.value("fetches_total", answer="full") == 1
    assert exporter.value("pack_duration_seconds_count", kind="full") == 1
    assert exporter.value("packs_failed_total") == 0
    assert (exporter.value("pack_sent_bytes_total") or 0) == exporter.value("pack_cache_bytes")

    origin = running.scrape("origin")
    assert origin.value("http_requests_total", status="200") == 1
    assert origin.value("http_requests_total", status="206") == 1
    assert origin.value("origin_refused_tokens_total") == 1
    assert (origin.value("origin_sent_bytes_total") or 0) > 10_000

    for service in SERVICES:
        scraped = running.scrape(service)
        assert scraped.value("ready") == 1, scraped.text
        assert scraped.value("bus_connected") == 1


def test_dashboard_and_alerts_use_only_numbers_that_are_told(running: Running) -> None:
    told: set[str] = {"up"}
    for service in SERVICES:
        for family in running.scrape(service).families.values():
            told |= {family.name, f"{family.name}_total"}
            told |= {f"{family.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    used = set(re.findall(r"\b(?:music_cloud|process)_\w+", " ".join([*expressions(), ALERTS.read_text()])))
    assert used - told == set()
    assert {number.name for number in NUMBERS} <= {name.removesuffix("_bucket") for name in used} | {
        "music_cloud_disk_size_bytes"
    }, "a number that nobody looks at"


def test_dashboard_expressions_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"x:{number}", "expr": words} for number, words in enumerate(expressions())]
    # JSON is YAML.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yml"))


def test_alerts_fire_when_they_should_and_the_configuration_is_valid() -> None:
    promtool("check", "config", str(ALERTS.parent / "prometheus.yml"))
    promtool("test", "rules", str(ALERTS.parent / "alerts_test.yml"))


def test_each_alert_has_its_place_in_the_runbook() -> None:
    runbook = (REPOSITORY / "docs/runbook.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", runbook, re.M)
    }
    alerts = ALERTS.read_text()
    wanted = re.findall(r"runbook: docs/runbook\.md#(\S+)", alerts)
    assert len(wanted) == len(re.findall(r"- alert:", alerts))
    assert set(wanted) - anchors == set()


def test_a_real_prometheus_finds_the_services_and_every_panel_has_data(running: Running, tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed and could not be: scripts/test-packages does it as root")
    targets = [f"127.0.0.1:{port}" for port in running.ports.values()]
    scrape = {"job_name": "music-cloud", "static_configs": [{"targets": targets}]}
    (tmp_path / "prometheus.yml").write_text(
        json.dumps({"global": {"scrape_interval": "1s"}, "rule_files": [str(ALERTS)], "scrape_configs": [scrape]})
    )
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10)

    def ask(expression: str) -> list[Any]:
        try:
            answer = client.get("/api/v1/query", params={"query": expression}).json()
        except (httpx.TransportError, ValueError):
            return []
        assert answer["status"] == "success", (expression, answer)
        return list(answer["data"]["result"])

    try:
        running.stack.until(
            lambda: (
                ask("count(sum_over_time(up[30s]) >= 4)")[0:1] != []
                and ask("count(sum_over_time(up[30s]) >= 4)")[0]["value"][1] == str(len(SERVICES))
            ),
            seconds=45,
            what="prometheus to see all services",
        )
        empty = [words for words in expressions() if not ask(words) and not any(name in words for name in QUIET)]
        assert empty == []
        assert client.get("/api/v1/rules").json()["data"]["groups"]
    finally:
        client.close()
        process.terminate()
        process.wait(10)


def expressions() -> list[str]:
    """Everything that the dashboard asks, with Grafana's variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert found
    return [words.replace("$__rate_interval", "1m") for words in found]


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed and could not be: scripts/test-packages does it as root")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
