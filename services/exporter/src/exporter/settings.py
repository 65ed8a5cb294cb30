"""What the exporter reads from the environment, beside what all services share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from common.contracts.names import Token
from common.settings import Settings


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
    keep_snapshots: int = Field(default=5, ge=1, description="snapshots that are kept, the newest among them")
    exporter_host: str = Field(default="127.0.0.1", description="where snapshots are served")
    exporter_port: int = Field(default=8423, ge=0, le=65535, description="its port; 0 takes a free one")
    exporter_rebuild: bool = Field(
        default=False, description="put the catalog database aside at start and make it again from the bus"
    )

    @property
    def database(self) -> Path:
        return self.state / "catalog.db"
