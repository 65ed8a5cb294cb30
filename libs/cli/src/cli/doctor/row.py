"""One line of the doctor's answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from common.audit import Finding

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """``subject``: what was looked at. ``mend``: a command for a shell, empty where none does it."""

    subject: str
    status: Status
    message: str
    mend: str = ""


def ok(subject: str, message: str) -> Row:
    """It is as it should be."""
    return Row(subject=subject, status="ok", message=message)


def warning(subject: str, message: str, mend: str = "") -> Row:
    """It works, and will not for ever or not as well as it could."""
    return Row(subject=subject, status="warning", message=message, mend=mend)


def error(subject: str, message: str, mend: str = "") -> Row:
    """Something does not work."""
    return Row(subject=subject, status="error", message=message, mend=mend)


def from_finding(subject: str, finding: Finding) -> Row:
    """What the audit found."""
    return Row(subject=subject, status=finding.severity, message=f"{finding.message}.", mend=finding.mend)


def worst(rows: Iterable[Row]) -> Status:
    """The worst status of all; ``ok`` of none."""
    found = {row.status for row in rows}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"
