"""Keeps copies of stored files in S3-compatible object storage."""
