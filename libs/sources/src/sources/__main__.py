"""``python -m sources check``: which sources work from here, as ``music-cloud sources check`` shows it."""

from __future__ import annotations

import argparse
import json
import os
import sys

from common.errors import ConfigurationError, MusicCloudError
from common.redaction import Redaction, secrets_of
from common.settings import Settings, load
from common.telemetry import configure_logging

from .check import STEP_SECONDS, Check, Report, left_behind
from .registry import load_sources

_MARK = {True: "ok", False: "FAILED", None: "-"}


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all well, 1 something failed, 2 wrong settings or arguments."""
    parser = argparse.ArgumentParser(prog="sources", description="Try the sources for real, from this machine.")
    check = parser.add_subparsers(required=True, metavar="check").add_parser("check", help="try the sources")
    check.add_argument("names", nargs="*", help="names of sources; default: those of SOURCES")
    check.add_argument("--search", default="", metavar="WORDS", help="what to look for")
    check.add_argument(
        "--timeout",
        type=float,
        default=STEP_SECONDS,
        metavar="SECONDS",
        help="for each step of a source; default: %(default)g",
    )
    check.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    told = parser.parse_args(arguments)
    try:
        settings = load(Settings)
        configure_logging(level="critical", format="text", service="sources", instance="check")
        if told.names:
            settings = settings.model_copy(update={"sources": ",".join(told.names)})
        sources = load_sources(settings)
    except ConfigurationError as error:
        for sentence in error.sentences:
            print(f"sources: {sentence}", file=sys.stderr)
        return 2
    hide = Redaction(secrets_of(settings))
    trying = Check(settings, words=told.search, patience=max(1.0, told.timeout))
    reports: list[Report] = []
    for name in settings.source_names:
        if name in sources.ready:
            reports.append(trying.run(sources.ready[name]))
            if not told.json:
                print(hide(_lines(reports[-1])), flush=True)
        elif not told.json:
            print(f"{name}\n  FAILED {sources.broken[name]}", flush=True)
    failed = bool(sources.broken) or not all(report.ok for report in reports)
    if told.json:
        answer = {"ok": not failed, "sources": [report.told() for report in reports], "broken": dict(sources.broken)}
        print(hide(json.dumps(answer, ensure_ascii=False)))
    return 1 if failed else 0


def _lines(report: Report) -> str:
    lines = [report.name]
    if report.licence:
        lines.append(f"  licence  {report.licence}")
    if report.rate:
        lines.append(f"  rate     at most {report.rate:g} requests a second")
    lines += [f"  {step.step:8} {_MARK[step.ok]:6} {step.message} ({step.seconds:.1f} s)" for step in report.steps]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
        if left_behind():
            os._exit(status)  # else what it started could keep this process for ever
        sys.exit(status)
    except MusicCloudError as problem:
        sys.exit(f"sources: {problem.message}")
    except KeyboardInterrupt:
        sys.exit(130)
