"""What the services found at their start that is not as it should be, for people. Pure."""

from __future__ import annotations

from typing import Any

from common.audit import Finding, read_findings
from console.service.fleet import Fleet, Member


def findings_view(fleet: Fleet, at: float) -> list[dict[str, Any]]:
    """Every finding once, with who has it; errors first. ``at``: monotonic seconds, as the fleet counts them."""
    found: dict[tuple[str, Finding], list[str]] = {}
    for member in fleet.members(at):
        if _counts(member, fleet, at):
            for finding in read_findings(member.beat.detail.get("findings")):
                found.setdefault((member.beat.service, finding), []).append(member.name)
    views = [
        {"service": service, "workers": workers, **finding.model_dump()}
        for (service, finding), workers in found.items()
    ]
    return sorted(views, key=lambda view: (view["severity"] != "error", view["service"], view["code"]))


def _counts(member: Member, fleet: Fleet, at: float) -> bool:
    """A process that is gone counts only when it could not start, and none of its kind has started since."""
    if member.live(at):
        return True
    if member.beat.ready or not any(
        one.severity == "error" for one in read_findings(member.beat.detail.get("findings"))
    ):
        return False
    return all(other.beat.started_at < member.beat.started_at for other in fleet.live(member.beat.service, at))
