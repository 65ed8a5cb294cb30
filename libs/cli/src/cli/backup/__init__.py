"""Backup, restore and reseed: everything that cannot be made again from somewhere else, in one archive."""
