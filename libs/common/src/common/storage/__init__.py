"""Where files are kept: one narrow port, and its adapters for a file system and for S3."""
