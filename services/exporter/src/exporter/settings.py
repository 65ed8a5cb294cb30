"""What the exporter reads from the environment, beside what all services share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ByteSize, Field, SecretStr, field_validator

from common.contracts.names import Token
from common.errors import ConfigurationError
from common.settings import HTTP_URL, MIN_SECRET_BYTES, Settings, split_list


class ExporterSettings(Settings):
    """Settings of the exporter."""

    SERVICE: ClassVar[str] = "exporter"

    catalog_name: Token = Field(default="main", description="the catalog's name in its announcements")
    export_settle_seconds: float = Field(
        default=2.0, gt=0, description="a snapshot is made when nothing has changed for so long"
    )
    export_max_interval_seconds: float = Field(
        default=60.0, gt=0, description="and at the latest so long after the first change"
    )
    keep_snapshots: int = Field(default=5, ge=1, description="snapshots that are kept at most, the newest among them")
    keep_snapshots_days: float = Field(
        default=30.0, gt=0, description="and none but the newest is kept when it is older than so many days"
    )
    snapshot_signing_key: SecretStr | None = Field(
        default=None,
        description="signs snapshots: an Ed25519 key, PEM or its 32 bytes in base64; made at first start",
    )
    snapshot_next_signing_key: SecretStr | None = Field(
        default=None, description="will sign next, and is announced to mirrors; see `music-cloud signing-key`"
    )
    exporter_host: str = Field(default="127.0.0.1", description="where snapshots are served")
    exporter_port: int = Field(default=8423, ge=0, le=65535, description="its port; 0 takes a free one")
    exporter_rebuild: bool = Field(
        default=False, description="put the catalog database aside at start and make it again from the bus"
    )

    catalog_owner: Token = Field(
        default="music-cloud", description="whose catalog it is, in its address: /CATALOG_OWNER/CATALOG_SLUG"
    )
    catalog_slug: Token = Field(default="catalog", description="which one, in its address")
    catalog_visibility: Literal["public", "private"] = Field(
        default="public", description="private: to whoever does not send CATALOG_TOKEN it does not exist"
    )
    catalog_token: SecretStr | None = Field(
        default=None,
        description="opens a private catalog; several separated by commas; at least 32 bytes; made at first start",
    )
    exporter_public_url: str | None = Field(
        default=None,
        pattern=HTTP_URL,
        description="URL of the exporter as mirrors see it, behind a proxy; default: what they asked",
    )
    pack_url_seconds: int = Field(
        default=900,
        ge=1,
        le=7 * 24 * 3600,
        description="a URL of a pack ends after so long; whoever reads then reads on",
    )
    pack_cache_size: ByteSize = Field(
        default=ByteSize(4 * 1024**3), gt=0, description="packs that are kept in STATE_DIR, in bytes; for instance 4GiB"
    )
    pack_cache_count: int = Field(default=64, ge=1, description="and their number")
    snapshot_bucket: str | None = Field(
        default=None,
        description="bucket for snapshots and packs, at the server and with the keys of OBJECT_...; empty: none",
    )
    snapshot_prefix: str = Field(default="", description="put in front of every key in it")
    snapshot_public_endpoint: str | None = Field(
        default=None, pattern=HTTP_URL, description="URL of the S3 server as mirrors see it; default: OBJECT_ENDPOINT"
    )
    snapshot_public_base_url: str | None = Field(
        default=None,
        pattern=HTTP_URL,
        description="URL under which the public reads SNAPSHOT_BUCKET; empty: presigned URLs",
    )
    snapshot_upload_seconds: float = Field(
        default=300.0, ge=0, description="between two snapshots that are put into SNAPSHOT_BUCKET, at least"
    )

    @field_validator("catalog_owner")
    @classmethod
    def _free(cls, value: str) -> str:
        if value == "snapshots":
            raise ValueError("another name: /snapshots/ is where the files are")
        return value

    @property
    def catalog_tokens(self) -> tuple[str, ...]:
        """What opens the catalog; empty: it is public. Raises ConfigurationError when nothing would open it."""
        if self.catalog_visibility == "public":
            return ()
        tokens = split_list(self.catalog_token.get_secret_value()) if self.catalog_token else ()
        if not tokens or any(len(token.encode()) < MIN_SECRET_BYTES for token in tokens):
            raise ConfigurationError(
                f"A private catalog needs CATALOG_TOKEN, of at least {MIN_SECRET_BYTES} bytes. Make one with: "
                "openssl rand -base64 48",
                code="catalog-token-missing",
            )
        return tokens

    @property
    def database(self) -> Path:
        return self.state / "catalog.db"
