"""What the console alone reads."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from common.settings import HTTP_URL, Settings, host_list, split_list

MIN_CREDENTIAL_CHARS = 16
"""Shorter credentials are guessed; the one made at first start has 48."""


def limits_of(text: str) -> dict[str, int]:
    """Items under way at once, by source, from a checked SOURCE_LIMITS."""
    parts = (part.partition("=") for part in split_list(text))
    return {name.strip(): int(limit) for name, _, limit in parts}


class ConsoleSettings(Settings):
    """Settings of the console."""

    SERVICE: ClassVar[str] = "console"

    web_host: str = Field(default="127.0.0.1", description="address of the console; 0.0.0.0 opens it to the network")
    web_port: int = Field(default=8421, ge=0, le=65535, description="port of the console")
    console_token: SecretStr | None = Field(
        default=None, description="credential of the console and its API; made at first start"
    )
    allowed_hosts: str = Field(
        default="", description="names under which browsers reach the console, separated by commas"
    )
    origin_public_url: str = Field(
        default="http://127.0.0.1:8422", pattern=HTTP_URL, description="URL under which players reach the origin"
    )
    origin_token_secret: SecretStr | None = Field(default=None, description="signs stream links; made at first start")
    source_max_in_flight: int = Field(
        default=64, ge=1, le=10_000, description="items of one source under way at once in each job, over all workers"
    )
    source_limits: str = Field(
        default="",
        description="items of single sources under way at once over all jobs and workers, in each stage, such as "
        "jamendo=2,feed=16; the rest keep the other limit",
    )
    history_days: int = Field(
        default=90, ge=1, le=36_500, description="jobs that ended longer ago are forgotten, with their items and logs"
    )
    recovery: Literal["resume", "pause"] = Field(
        default="resume", description="pause: jobs found running when the console starts wait for a person"
    )
    ops_db_path: Path | None = Field(
        default=None, description="the console's own database; default STATE_DIR/ops.db; a local disk"
    )

    @field_validator("console_token")
    @classmethod
    def _strong(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_CREDENTIAL_CHARS:
            raise ValueError(
                f"shorter than {MIN_CREDENTIAL_CHARS} characters, so it could be guessed; "
                "make one with: openssl rand -base64 36"
            )
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        return host_list(value)

    @field_validator("source_limits")
    @classmethod
    def _limits(cls, value: str) -> str:
        for part in split_list(value):
            name, separator, limit = part.partition("=")
            if not separator or not name.strip() or not limit.strip().isdecimal() or not 1 <= int(limit) <= 10_000:
                raise ValueError("write it as name=number, several separated by commas; numbers from 1 to 10000")
        return value

    @property
    def limits(self) -> dict[str, int]:
        """Items under way at once, of the sources that have a limit of their own."""
        return limits_of(self.source_limits)

    @property
    def ops_db(self) -> Path:
        return (self.ops_db_path or self.state / "ops.db").absolute()

    @property
    def host_names(self) -> tuple[str, ...]:
        return split_list(self.allowed_hosts)

    @property
    def loopback_only(self) -> bool:
        """Whether only this machine can reach the console."""
        if self.web_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.web_host).is_loopback
        except ValueError:
            return False

    @property
    def upload_backend(self) -> str | None:
        """The object store that jobs copy to, if one is set up."""
        return self.object_backend_name if self.object_store_configured else None
