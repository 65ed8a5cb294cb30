"""Random faults with ever new seeds for as long as asked: ``python -m tests.support.chaos_soak 3600``.

Each seed is one run of the tests, so that a failure tells its seed and can be repeated. It goes on after a
failure, and ends with the seeds that failed.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time

TESTS = "tests/faults/test_faults_schedule.py"
SECONDS = "25"
"""Of faults in each run, unless FAULT_SECONDS says otherwise."""


def main() -> int:
    """Run; 1 when a seed failed."""
    ends = time.monotonic() + float(sys.argv[1])
    failed: list[int] = []
    runs = 0
    while not runs or time.monotonic() < ends:
        seed = secrets.randbelow(1 << 31)
        environment = {"FAULT_SECONDS": SECONDS, **os.environ, "FAULT_SEED": str(seed)}
        command = [sys.executable, "-m", "pytest", TESTS, "-q", "-p", "no:cacheprovider"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        runs += 1
        if ended.returncode:
            failed.append(seed)
            print(ended.stdout, ended.stderr, flush=True)
        print(f"run {runs}: seed {seed} {'FAILED' if ended.returncode else 'passed'}", flush=True)
    print(f"{runs} runs, {len(failed)} failed" + (f": FAULT_SEED={','.join(map(str, failed))}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
