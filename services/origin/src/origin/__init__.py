"""Streams files by expiring signed tokens."""
