"""What the audit asks of the process and of the bus: limits, and the time."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import nats
import pytest
from nats.aio.msg import Msg

from common.audit.process import clock_finding
from common.bus import Bus
from tests.support.nats import find_server
from tests.support.stack import free_port

LIMITS = """
import resource
from common.audit.process import files_finding
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
found = files_finding(512)
print(found.code if found else "well", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("hard", "said"), [(128, "few-open-files 128"), (700, "well 700")])
def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(hard: int, said: str) -> None:
    code = LIMITS.format(hard=hard)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout.strip() == said


async def test_the_clock_is_compared_with_what_the_server_tells() -> None:
    """The answer is a server's since 2.10, from a plain server without streams, so that we can say its time."""
    port = free_port()
    server = subprocess.Popen([find_server(), "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        nc = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=100, reconnect_time_wait=0.05)
        told = datetime.now(UTC) - timedelta(hours=2)

        async def answer(message: Msg) -> None:
            await message.respond(json.dumps({"ts": told.isoformat().replace("+00:00", "Z")}).encode())

        await nc.subscribe("$JS.API.STREAM.INFO.KV_JOBS", cb=answer)
        found = await clock_finding(nc)
        assert found is not None
        assert found.code == "clock-off"
        assert " s ahead of that of the bus" in found.message
        told = datetime.now(UTC)
        assert await clock_finding(nc) is None
        await nc.close()
    finally:
        server.terminate()
        server.wait(10)


async def test_a_real_server_on_this_machine_has_our_time(bus: Bus) -> None:
    assert await clock_finding(bus.nc) is None
