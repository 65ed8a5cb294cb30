"""Settings: one env file for all services; the process environment wins over it.

A service extends :class:`Settings` with what it alone needs, and reads it once, in its bootstrap.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal, TypeVar

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import ConfigurationError

ENV_FILE_VARIABLE = "MUSIC_CLOUD_ENV_FILE"
ENV_FILES = ("music-cloud.env", "catalogsync.env")
SECRETS_FILE = "secrets.env"
MIN_SECRET_BYTES = 32
"""Shorter secrets can be guessed from one captured token."""


class Settings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(extra="ignore", env_file_encoding="utf-8", env_ignore_empty=True)

    root_dir: Path = Field(default=Path("data"), description="everything that is not given elsewhere lies below it")
    library_dir: Path | None = Field(default=None, description="the library; default ROOT_DIR/library")
    state_dir: Path | None = Field(default=None, description="databases; a local disk; default ROOT_DIR/state")
    snapshot_dir: Path | None = Field(default=None, description="snapshots; default ROOT_DIR/snapshots")
    log_dir: Path | None = Field(default=None, description="log files; default ROOT_DIR/logs")

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="the bus; several separated by commas")
    nats_user: str = Field(default="services", description="account of the services on the bus")
    nats_password: SecretStr | None = Field(default=None, description="its password; made at first start")

    sources: str = Field(default="local,feed", description="names of the sources in use, separated by commas")
    local_media_import_path: Path | None = Field(
        default=None, description="a mounted folder to collect from, read-only"
    )
    feeds: str = Field(default="", description="playlist files or URLs to collect from, separated by commas")
    feed_max_mib: int = Field(default=64, ge=1, description="a playlist feed larger than this is refused")
    allow_private_addresses: bool = Field(
        default=False, description="true: feeds and their songs may lie anywhere on the local network"
    )
    allow_private_hosts: str = Field(
        default="", description="hosts (or host:port) of the local network that feeds may point to, separated by commas"
    )
    object_backend_name: str = Field(default="objects", description="name of the object store in the catalog")
    object_bucket: str | None = Field(default=None, description="bucket; empty: no copies are made")
    object_endpoint: str | None = Field(default=None, description="URL of the S3 server; empty: AWS")
    object_region: str = Field(default="us-east-1", description="region of the bucket")
    object_access_key: SecretStr | None = Field(default=None, description="access key of the bucket")
    object_secret_key: SecretStr | None = Field(default=None, description="secret key of the bucket")
    object_prefix: str = Field(default="", description="put in front of every key")
    object_addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="bucket in the path or in the host name; auto: path where OBJECT_ENDPOINT is set"
    )
    object_public_base_url: str | None = Field(default=None, description="URL under which the public reads the bucket")

    log_level: str = Field(default="info", description="debug, info, warning or error")
    log_format: str = Field(default="text", description="text or json")
    instance: str | None = Field(default=None, description="name of this copy of the service; default host-pid")
    health_host: str = Field(default="127.0.0.1", description="where /healthz, /readyz and /metrics listen")
    health_port: int = Field(default=0, ge=0, le=65535, description="their port; 0 takes a free one")
    heartbeat_seconds: float = Field(default=2.0, gt=0, le=10, description="between two heartbeats")
    lease_seconds: float = Field(
        default=60.0, ge=1, description="an item whose worker shows no life for so long is given to another"
    )
    stall_seconds: float = Field(default=60.0, ge=1, description="an item without progress for so long is interrupted")
    max_tries: int = Field(default=5, ge=1, description="tries of an item before it is parked")
    retry_delay_seconds: float = Field(default=5.0, gt=0, description="before the first retry; doubles with each")

    @property
    def library(self) -> Path:
        return (self.library_dir or self.root_dir / "library").absolute()

    @property
    def state(self) -> Path:
        return (self.state_dir or self.root_dir / "state").absolute()

    @property
    def snapshots(self) -> Path:
        return (self.snapshot_dir or self.root_dir / "snapshots").absolute()

    @property
    def logs(self) -> Path:
        return (self.log_dir or self.root_dir / "logs").absolute()

    @property
    def source_names(self) -> tuple[str, ...]:
        return split_list(self.sources)

    @property
    def object_store_configured(self) -> bool:
        return bool(self.object_bucket and self.object_access_key and self.object_secret_key)


S = TypeVar("S", bound=Settings)


def split_list(text: str) -> tuple[str, ...]:
    """The parts of a comma separated setting, trimmed, in order, without repeats."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def env_files() -> tuple[Path, ...]:
    """The env files that are read, weakest first: generated secrets, then the person's own file."""
    named = os.environ.get(ENV_FILE_VARIABLE)
    own = [Path(named)] if named else [Path(name) for name in ENV_FILES if Path(name).is_file()][:1]
    root = Path(os.environ.get("ROOT_DIR") or _value_in(own, "ROOT_DIR") or "data")
    return (root / SECRETS_FILE, *own)


def load(model: type[S]) -> S:
    """Read the settings of a service.

    Raises :class:`ConfigurationError` with one line per wrong setting; never shows a value.
    """
    files = env_files()
    named = os.environ.get(ENV_FILE_VARIABLE)
    if named and not Path(named).is_file():
        raise ConfigurationError(f"{ENV_FILE_VARIABLE} names {named}, which is not a file. Create it, or unset it.")
    try:
        return model(_env_file=tuple(str(file) for file in files))
    except ValidationError as error:
        lines = [
            f"{'_'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise ConfigurationError("Mend these settings and start again:\n  " + "\n  ".join(lines)) from None
    except OSError as error:
        raise ConfigurationError(
            f"A file of settings or secrets cannot be read ({error.strerror}). ROOT_DIR and what lies in it must "
            "belong to the user that runs this."
        ) from None


def ensure_secrets(root: Path) -> dict[str, str]:
    """Make the secrets that are missing below ``root``; return those made now, to be shown once."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / SECRETS_FILE
    present = _read_env(path) if path.is_file() else {}
    made = {name: secrets.token_urlsafe(36) for name in GENERATED_SECRETS if not present.get(name)}
    if made:
        lines = "".join(f"{name}={value}\n" for name, value in {**present, **made}.items())
        temporary = path.with_suffix(f".tmp{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("# Made at first start. Keep it: tokens and passwords depend on it.\n" + lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    return made


GENERATED_SECRETS = ("NATS_PASSWORD", "NATS_READER_PASSWORD", "CONSOLE_TOKEN", "ORIGIN_TOKEN_SECRET")


def _read_env(path: Path) -> dict[str, str]:
    return {key: value for key, value in dotenv_values(path).items() if value}


def _value_in(files: list[Path], key: str) -> str | None:
    for file in files:
        if file.is_file() and (value := _read_env(file).get(key)):
            return value
    return None
