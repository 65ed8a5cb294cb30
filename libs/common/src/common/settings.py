"""Settings: one env file for all services; the process environment wins over it.

A service extends :class:`Settings` with what it alone needs, and reads it once, in its bootstrap.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.env_file import ENCODING, OLDER_FILE, EnvFile, check_environment, describe, own_files, read_env_file
from common.errors import ConfigurationError
from common.secret_files import read_env, secrets_path

ENV_FILE_VARIABLE = "MUSIC_CLOUD_ENV_FILE"
ENV_FILES = ("music-cloud.env", "catalogsync.env")
MIN_SECRET_BYTES = 32
"""Shorter secrets can be guessed from one captured token."""
HTTP_URL = r"^https?://\S+$"
_WORDS = {"log_level": ("debug", "info", "warning", "error"), "log_format": ("text", "json")}
_BUS_SCHEMES = ("nats", "tls")


class Settings(BaseSettings):
    """What every service reads."""

    SERVICE: ClassVar[str] = ""
    """Whose secrets are read, and the account on the bus; a service's own name."""

    model_config = SettingsConfigDict(
        extra="ignore", env_file_encoding=ENCODING, env_ignore_empty=True, allow_inf_nan=False
    )

    root_dir: Path = Field(default=Path("data"), description="everything that is not given elsewhere lies below it")
    library_dir: Path | None = Field(default=None, description="the library; default ROOT_DIR/library")
    state_dir: Path | None = Field(default=None, description="databases; a local disk; default ROOT_DIR/state")
    snapshot_dir: Path | None = Field(default=None, description="snapshots; default ROOT_DIR/snapshots")
    log_dir: Path | None = Field(default=None, description="log files; default ROOT_DIR/logs")
    stack_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{8,128}$",
        description="names this installation in its library, so that no other one writes there; made at first start",
    )

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="the bus; several separated by commas")
    nats_user: str | None = Field(default=None, description="account on the bus; default: the service's own")
    nats_password: SecretStr | None = Field(default=None, description="its password; made at first start")
    nats_ca: Path | None = Field(
        default=None, description="authority (PEM) that signed the bus's certificate, for tls://; default: the system's"
    )

    nats_replicas: int = Field(default=1, ge=1, description="copies of each stream: 1, or 3 on a cluster of three")
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL for collector, downloader and console, like postgresql://user:password@host/database; "
        "empty: SQLite files in STATE_DIR",
    )

    sources: str = Field(default="local,feed", description="names of the sources in use, separated by commas")
    download_sources: str = Field(
        default="",
        description="sources that give files, in the order to try them, separated by commas; empty: all of SOURCES. "
        "A song's own source comes first; after RESOLVER_WARMUP_ATTEMPTS experience orders the others",
    )
    local_media_import_path: Path | None = Field(
        default=None, description="a mounted folder to collect from, read-only"
    )
    adopted_libraries: str = Field(
        default="", description="folders of adopted libraries beside LIBRARY_DIR, as name=folder, separated by commas"
    )
    feeds: str = Field(default="", description="playlist files or URLs to collect from, separated by commas")
    feed_max_mib: int = Field(default=64, ge=1, description="a playlist feed larger than this is refused")
    allow_private_addresses: bool = Field(
        default=False, description="true: feeds and their songs may lie anywhere on the local network"
    )
    allow_private_hosts: str = Field(
        default="", description="hosts (or host:port) of the local network that feeds may point to, separated by commas"
    )
    source_contact: str = Field(
        default="",
        description="your e-mail address or page, told to public archives as who asks; Wikimedia demands one",
    )
    source_rates: str = Field(
        default="",
        description="requests a second that each process makes to a source, as name=number, separated by commas; "
        "default: its own",
    )
    source_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="for a whole answer of a source's server; a file takes what it takes"
    )
    subsonic_url: str = Field(default="", description="another Subsonic server, such as http://nas:4533")
    subsonic_user: str = Field(default="", description="user there")
    subsonic_password: SecretStr | None = Field(default=None, description="password there")
    subsonic_auth: Literal["token", "password", "basic"] = Field(
        default="token",
        description="how it is told the password; for servers that take no tokens: basic (supysonic) or password",
    )
    subsonic_playlists: str = Field(
        default="", description="ids or names of playlists there, separated by commas; empty: all that the user sees"
    )
    internet_archive_collections: str = Field(
        default="", description="identifiers of collections or items at archive.org, separated by commas"
    )
    internet_archive_max_items: int = Field(
        default=200, ge=1, le=10_000, description="items of a collection that are read; each costs a request"
    )
    internet_archive_any_licence: bool = Field(
        default=False, description="true: searches find items without a stated licence too"
    )
    internet_archive_url: str = Field(default="https://archive.org", description="where its API is")
    jamendo_client_id: SecretStr | None = Field(
        default=None, description="client id of the Jamendo API, free at devportal.jamendo.com"
    )
    jamendo_playlists: str = Field(default="", description="ids of Jamendo playlists, separated by commas")
    jamendo_albums: str = Field(default="", description="ids of Jamendo albums, separated by commas")
    jamendo_toplists: str = Field(
        default="", description="toplists of Jamendo to collect: week, month, all-time, separated by commas"
    )
    jamendo_format: Literal["flac", "mp32", "ogg"] = Field(
        default="flac", description="what is downloaded; mp32: MP3 with a variable bit rate"
    )
    jamendo_url: str = Field(default="https://api.jamendo.com/v3.0", description="where its API is")
    audius_playlists: str = Field(default="", description="ids of Audius playlists or albums, separated by commas")
    audius_users: str = Field(default="", description="handles of Audius artists, separated by commas")
    audius_toplists: str = Field(
        default="", description="toplists of Audius to collect: week, month, all-time, separated by commas"
    )
    audius_streams: bool = Field(
        default=False, description="true: take streams of songs whose artists offer no download as well"
    )
    audius_url: str = Field(default="https://api.audius.co", description="where its nodes are listed")
    wikimedia_commons_categories: str = Field(
        default="", description="categories of Wikimedia Commons with audio, separated by commas"
    )
    wikimedia_commons_url: str = Field(
        default="https://commons.wikimedia.org/w/api.php", description="where its API is"
    )
    object_backend_name: str = Field(default="objects", description="name of the object store in the catalog")
    object_bucket: str | None = Field(default=None, description="bucket; empty: no copies are made")
    object_endpoint: str | None = Field(default=None, pattern=HTTP_URL, description="URL of the S3 server; empty: AWS")
    object_region: str = Field(default="us-east-1", description="region of the bucket")
    object_access_key: SecretStr | None = Field(default=None, description="access key of the bucket")
    object_secret_key: SecretStr | None = Field(default=None, description="secret key of the bucket")
    object_prefix: str = Field(default="", description="put in front of every key")
    object_addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="bucket in the path or in the host name; auto: path where OBJECT_ENDPOINT is set"
    )
    object_public_base_url: str | None = Field(
        default=None, pattern=HTTP_URL, description="URL under which the public reads the bucket"
    )

    log_level: str = Field(default="info", description="debug, info, warning or error")
    log_format: str = Field(default="text", description="text or json")
    umask: str | None = Field(
        default=None, pattern=r"^[0-7]{3,4}$", description="permissions taken from new files, octal, such as 022"
    )
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

    @field_validator("nats_replicas")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value not in (1, 3):
            raise ValueError("1, or 3 on a cluster of three servers")
        return value

    @field_validator("log_level", "log_format")
    @classmethod
    def _one_of(cls, value: str, info: ValidationInfo) -> str:
        *most, last = _WORDS[info.field_name or ""]
        if value.lower() not in (*most, last):
            raise ValueError(f"should be {', '.join(most)} or {last}")
        return value.lower()

    @field_validator("nats_url")
    @classmethod
    def _bus(cls, value: str) -> str:
        urls = split_list(value)
        if not urls or not all(map(_is_bus, urls)):
            raise ValueError("should be nats://host:4222 or tls://host:4222, several separated by commas")
        return ",".join(urls)

    @field_validator("allow_private_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        return host_list(value)

    @property
    def bus_user(self) -> str:
        return self.nats_user or self.SERVICE

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


def host_list(text: str) -> str:
    """A setting that lists hosts, as it is. Raises ValueError for what never is the name of one."""
    if any("/" in part or "@" in part for part in split_list(text)):
        raise ValueError("should be names of hosts, such as nas.local, without http:// and path")
    return text


def _is_bus(url: str) -> bool:
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        # Asking for a port that is none raises; 0 lets `music-cloud run` take a free one.
        return parts.scheme in _BUS_SCHEMES and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        return False


def env_files(service: str = "") -> tuple[Path, ...]:
    """The env files that are read, weakest first: the service's generated secrets, then the person's own file."""
    named = os.environ.get(ENV_FILE_VARIABLE)
    own = own_files(ENV_FILES, named=named or None)
    for file in own:
        read_env_file(file, judge_names=file.name != OLDER_FILE)
    root = Path(os.environ.get("ROOT_DIR") or _value_in(own, "ROOT_DIR") or "data")
    return (secrets_path(root, service), *own) if service else tuple(own)


def load(model: type[S]) -> S:
    """Read the settings of a service.

    Raises :class:`ConfigurationError` with one sentence that names each wrong setting and never shows a value.
    """
    check_environment(model.model_fields)
    files = env_files(model.SERVICE)
    found: list[EnvFile] = []
    try:
        found = [read_env_file(file, judge_names=False) for file in files if file.is_file()]
        return model(_env_file=tuple(str(file) for file in files))
    except ValidationError as error:
        raise ConfigurationError(describe(error, found)) from None
    except OSError as error:
        raise ConfigurationError(
            f"A file of settings or secrets cannot be read ({error.strerror}). ROOT_DIR and what lies in it must "
            "belong to the user that runs this."
        ) from None


def own_file() -> Path | None:
    """The person's own env file, if there is one. Raises ConfigurationError where it cannot be one."""
    return next(iter(own_files(ENV_FILES, named=os.environ.get(ENV_FILE_VARIABLE) or None)), None)


def own_values() -> dict[str, str]:
    """What the person's own env file holds now, by name in upper case. Raises ConfigurationError."""
    path = own_file()
    if path is None:
        return {}
    read_env_file(path, judge_names=path.name != OLDER_FILE)
    return {name.upper(): value for name, value in read_env(path).items()}


def _value_in(files: list[Path], key: str) -> str | None:
    for file in files:
        if file.is_file() and (value := read_env(file).get(key)):
            return value
    return None
