"""What the console alone reads."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from common.settings import Settings, split_list

MIN_CREDENTIAL_CHARS = 16
"""Shorter credentials are guessed; the one made at first start has 48."""


class ConsoleSettings(Settings):
    """Settings of the console."""

    web_host: str = Field(default="127.0.0.1", description="address of the console; 0.0.0.0 opens it to the network")
    web_port: int = Field(default=8421, ge=0, le=65535, description="port of the console")
    console_token: SecretStr | None = Field(
        default=None, description="credential of the console and its API; made at first start"
    )
    allowed_hosts: str = Field(
        default="", description="names under which browsers reach the console, separated by commas"
    )
    origin_public_url: str = Field(
        default="http://127.0.0.1:8422", description="URL under which players reach the origin"
    )
    origin_token_secret: SecretStr | None = Field(default=None, description="signs stream links; made at first start")
    source_max_in_flight: int = Field(
        default=64, ge=1, le=10_000, description="items of one source under way at once, over all workers"
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
