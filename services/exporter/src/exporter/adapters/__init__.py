"""Where the exporter touches the disk."""
