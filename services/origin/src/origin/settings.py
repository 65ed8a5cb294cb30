"""What the origin reads from the environment, beside what all services share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from common.settings import Settings, split_list
from common.tokens import check_secret


class OriginSettings(Settings):
    """Settings of the origin."""

    SERVICE: ClassVar[str] = "origin"

    origin_host: str = Field(default="127.0.0.1", description="where the origin listens")
    origin_port: int = Field(default=8422, ge=0, le=65535, description="its port; 0 takes a free one")
    origin_token_secret: SecretStr | None = Field(
        default=None, description="signs stream tokens; at least 32 bytes; made at first start"
    )
    origin_token_previous_secrets: SecretStr | None = Field(
        default=None, description="secrets that signed links still in use, separated by commas"
    )
    origin_read_threads: int = Field(
        default=16, ge=1, le=256, description="reads from disk at once; what is in memory needs none"
    )
    origin_stall_seconds: float = Field(
        default=300.0, gt=0, description="a listener who takes nothing for so long is let go, and may come again"
    )

    @property
    def token_secrets(self) -> tuple[bytes, ...]:
        """The secret that signs, then those still believed; empty when none is set.

        Raises :class:`common.tokens.WeakSecret` for any that is too short.
        """
        if self.origin_token_secret is None:
            return ()
        previous = self.origin_token_previous_secrets
        older = split_list(previous.get_secret_value()) if previous else ()
        return tuple(check_secret(one) for one in (self.origin_token_secret.get_secret_value(), *older))
