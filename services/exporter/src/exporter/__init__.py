"""Turns the facts into the catalog and publishes snapshots of it."""
