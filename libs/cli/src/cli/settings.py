"""What the command line and `music-cloud run` read, besides what every service reads."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from common.contracts.names import ImportMode
from common.settings import HTTP_URL, Settings


class CliSettings(Settings):
    """Settings of the command line."""

    SERVICE: ClassVar[str] = "operator"

    nats_tls_cert: Path | None = Field(
        default=None, description="certificate of our nats-server (PEM); with it NATS_URL begins with tls://"
    )
    nats_tls_key: Path | None = Field(default=None, description="the key of that certificate (PEM)")
    import_mode: ImportMode | None = Field(
        default=None,
        description="how files of LOCAL_MEDIA_IMPORT_PATH enter the library: reference, hardlink, reflink or copy",
    )
    web_host: str = Field(default="127.0.0.1", description="where the console listens")
    web_port: int = Field(default=8421, ge=0, le=65535, description="port of the console")
    origin_host: str = Field(default="127.0.0.1", description="where the origin listens")
    origin_port: int = Field(default=8422, ge=0, le=65535, description="port of the origin")
    origin_public_url: str | None = Field(
        default=None,
        pattern=HTTP_URL,
        description="URL under which players reach the origin; default: where it listens",
    )
    exporter_host: str = Field(default="127.0.0.1", description="where snapshots are served")
    exporter_port: int = Field(default=8423, ge=0, le=65535, description="port of the exporter")
    demo_port: int = Field(default=8424, ge=0, le=65535, description="port of the feed of the demo music")
    console_token: SecretStr | None = Field(default=None, description="credential of the console; made at first start")
    music_cloud_url: str | None = Field(
        default=None,
        pattern=HTTP_URL,
        description="the console, for the command line; default: the one started here",
    )
