"""Reads playlists from sources and asks for the songs that are missing."""
