"""Finds, fetches, verifies and files songs."""
