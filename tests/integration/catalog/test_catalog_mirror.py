"""The example catalog beside a real ``music-cloud-mirror watch``: what is published is what visitors read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx

from tests.support.mirrors import environment, mirror_command
from tests.support.public_catalog import running
from tests.support.publisher import Publisher, catalog, serving


def test_what_is_published_reaches_visitors_by_itself(tmp_path: Path) -> None:
    folder, publisher = tmp_path / "mirror", Publisher()
    first = publisher.publish(catalog(30))
    with serving(publisher) as server, running(tmp_path, folder) as example:
        assert httpx.get(example.url, trust_env=False).status_code == 503
        watch = subprocess.Popen(
            mirror_command("watch", server.url, "--into", folder, "--every", "1", "--quiet"), env=environment()
        )
        try:
            example.until_shown(first.manifest)
            assert "歌 7" in httpx.get(f"{example.url}/songs/7", trust_env=False).text
            # One song goes, one comes, all others have another name: a pack of changes.
            second = publisher.publish(catalog(30, first=2, note=" 新版"))
            example.until_shown(second.manifest)
            assert "歌 7 新版" in httpx.get(f"{example.url}/songs/7", trust_env=False).text
            assert httpx.get(f"{example.url}/songs/1", trust_env=False).status_code == 404
            found = httpx.get(f"{example.url}/search", params={"q": "新版"}, trust_env=False).text
            assert found.count('class="song"') == 30
            assert "Best" in httpx.get(f"{example.url}/toplists", trust_env=False).text
        finally:
            watch.terminate()
            watch.wait(20)
