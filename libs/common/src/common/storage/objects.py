"""The object store that the settings describe. Needs boto3: the extra ``s3`` of this distribution."""

from __future__ import annotations

from common.settings import Settings
from common.storage.s3 import S3Config, S3Storage

NOT_CONFIGURED = "No object store is configured: set OBJECT_BUCKET, OBJECT_ACCESS_KEY and OBJECT_SECRET_KEY."


def object_store(
    settings: Settings,
    *,
    connections: int = 16,
    bucket: str | None = None,
    prefix: str | None = None,
    endpoint: str | None = None,
) -> S3Storage | None:
    """The object store, or None where none is configured. Does not ask the server.

    ``bucket``, ``prefix``, ``endpoint``: another place on the same server, in place of the settings' own.
    """
    bucket = bucket or settings.object_bucket
    if not (bucket and settings.object_access_key and settings.object_secret_key):
        return None
    return S3Storage(
        config=S3Config(
            bucket=bucket,
            access_key=settings.object_access_key.get_secret_value(),
            secret_key=settings.object_secret_key.get_secret_value(),
            endpoint=endpoint or settings.object_endpoint,
            region=settings.object_region,
            prefix=settings.object_prefix if prefix is None else prefix,
            addressing=settings.object_addressing,
            connections=connections,
        )
    )
