"""What the audit found: a code for programs, a sentence and a command for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.audit.commands import edit_settings
from common.contracts.names import Token
from common.errors import ConfigurationError

_MOST = 50
"""Findings of one process that are believed; an honest one has a handful."""


class Finding(BaseModel):
    """One thing that is not as it should be.

    An error ends the start; with a warning the service goes on. ``message`` names settings, never a path or a
    secret. ``mend`` is a command for a shell on the machine, as it stands; where a person must decide, it shows
    what there is to know.
    """

    model_config = ConfigDict(frozen=True)

    code: Token
    severity: Literal["error", "warning"]
    message: str = Field(max_length=600, description="one sentence, without a full stop")
    mend: str = Field(default="", max_length=16_000)

    @property
    def sentence(self) -> str:
        """All of it in one sentence, as a start that is refused says it."""
        return f"{self.message}; mend it with: {self.mend}" if self.mend else f"{self.message}."


def finding_of(error: ConfigurationError) -> Finding:
    """A start that failed for a setting or a file of ours, as something to be mended."""
    return Finding(code=error.code, severity="error", message=error.message[:600].rstrip("."), mend=edit_settings())


class StartRefused(ConfigurationError):
    """The audit found errors; nothing was changed."""

    code = "start-refused"

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(" ".join(finding.sentence for finding in self.findings))

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(finding.sentence for finding in self.findings)


def read_findings(told: Any) -> tuple[Finding, ...]:
    """The findings in a heartbeat's detail; what is not one is left out."""
    found: list[Finding] = []
    for one in told[:_MOST] if isinstance(told, list) else ():
        try:
            found.append(Finding.model_validate(one))
        except ValidationError:
            continue
    return tuple(found)
