"""What the downloader reads from the environment, beside what all services share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ByteSize, Field

from common.contracts.names import ImportMode
from common.settings import Settings
from downloader.service.layout import DEFAULT_LAYOUT

_GIB = 1024**3
_MIB = 1024**2


class DownloaderSettings(Settings):
    """Settings of the downloader."""

    SERVICE: ClassVar[str] = "downloader"

    import_mode: ImportMode = Field(
        default=ImportMode.REFLINK,
        description="how files of a mounted folder enter the library: reference, hardlink, reflink (else a copy), copy",
    )
    download_layout: str = Field(default=DEFAULT_LAYOUT, description="where a song is filed in the library")
    resolver_warmup_attempts: int = Field(
        default=1000, ge=0, description="tries for the songs of one source before experience orders the others"
    )
    resolver_half_life_days: float = Field(
        default=30.0, ge=0, description="after so many days a result weighs half; 0: all weigh the same"
    )
    resolver_exploration: float = Field(
        default=0.02, ge=0, le=1, description="share of searches that begin with a source other than the best; 0: none"
    )
    download_concurrency: int = Field(default=8, ge=1, le=64, description="songs that one downloader fetches at once")
    spool_dir: Path | None = Field(
        default=None, description="unfinished downloads; on the library's file system; default LIBRARY_DIR/.spool"
    )
    max_file_size: ByteSize = Field(
        default=ByteSize(4 * _GIB), gt=0, description="a larger file is refused; for instance 4GiB"
    )
    min_free_space: ByteSize = Field(
        default=ByteSize(512 * _MIB), description="downloads wait while the library's disk has less; for instance 1GiB"
    )
    verify: Literal["full", "container"] = Field(
        default="full", description="full decodes what has a decoder; container only reads the file's structure"
    )
    duration_tolerance_seconds: float = Field(
        default=5.0, ge=0, description="by how much a file may differ from the song's listed length (or 3 %, if more)"
    )
    connect_timeout_seconds: float = Field(default=10.0, gt=0, description="to reach a server")
    stall_timeout_seconds: float = Field(
        default=30.0, gt=0, description="without progress on a connection; a transfer as a whole has no limit"
    )
    server_patience_seconds: float = Field(
        default=3600.0, ge=60, description="songs wait so long for a server that does not answer, then they fail"
    )
    max_redirects: int = Field(default=5, ge=0, le=20, description="redirects that are followed")

    @property
    def spool(self) -> Path:
        return (self.spool_dir or self.library / ".spool").absolute()
