"""A real S3 server for the tests: one for the whole run, a fresh bucket for each test that asks.

All workers of a parallel run share it. It watches the process that the run was started in, so it ends, and its
data goes, with the run, however that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

SCRIPT = Path(__file__).parents[2] / "scripts" / "s3-server"


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and two keys: the reader's may read what it is let, and write nothing."""

    endpoint: str
    access_key: str = "test:tester"
    secret_key: str = "testing"
    reader_access_key: str = "test:reader"
    reader_secret_key: str = "reading"
    region: str = "us-east-1"

    @cached_property
    def client(self) -> Any:
        """A client of its own, independent of the code under test; threads may share it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


@dataclass(frozen=True)
class S3Bucket:
    """A bucket that nobody else uses."""

    server: S3Server
    name: str

    @property
    def client(self) -> Any:
        """The tests' own client, not the code's."""
        return self.server.client

    @property
    def settings_env(self) -> dict[str, str]:
        """The settings that make a service use it."""
        return {
            "OBJECT_ENDPOINT": self.server.endpoint,
            "OBJECT_BUCKET": self.name,
            "OBJECT_REGION": self.server.region,
            "OBJECT_ACCESS_KEY": self.server.access_key,
            "OBJECT_SECRET_KEY": self.server.secret_key,
        }

    def keys(self) -> list[str]:
        """Every key in the bucket, in order."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """The server, started by whoever asks first; skips, and says why, where it cannot be had."""
    run = getattr(request.config, "workerinput", {}).get("mainpid", os.getpid())
    folder = Path(tempfile.gettempdir()) / f"music-cloud-tests-s3-{run}"
    command = [sys.executable, str(SCRIPT), "up", "--dir", str(folder), "--with-pid", str(run)]
    started = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if started.returncode != 0:
        pytest.skip(f"no S3 server can run here: {started.stderr.strip()[-400:]}")
    endpoint = started.stdout.partition("OBJECT_ENDPOINT=")[2].split()[0]
    return S3Server(endpoint=endpoint)


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> S3Bucket:
    """A fresh bucket."""
    name = f"music-{uuid.uuid4().hex[:12]}"
    s3_server.client.create_bucket(Bucket=name)
    return S3Bucket(server=s3_server, name=name)
