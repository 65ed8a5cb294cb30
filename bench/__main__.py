"""Run every benchmark of this folder, one after the other, ``python -m bench``, or one: ``python -m bench export``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run them all, or the one that is named first; non-zero if one could not finish."""
    scripts, options = sorted(HERE.glob("[a-z]*.py")), sys.argv[1:]
    if options and not options[0].startswith("-"):
        name = options.pop(0)
        scripts = [script for script in scripts if script.stem == name]
        if not scripts:
            print(f"there is no benchmark {name}", file=sys.stderr)
            return 2
    failed = []
    for script in scripts:
        print(f"\n== {script.stem}", flush=True)
        if subprocess.run([sys.executable, str(script), *options], check=False).returncode:
            failed.append(script.stem)
    if failed:
        print(f"\nnot finished: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
