"""The format of a snapshot, the same for whoever publishes and whoever mirrors: see docs/snapshot-format.md."""
