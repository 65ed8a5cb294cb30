"""Playlist formats: M3U, M3U8, XSPF, JSPF; recognised by their content, read within bounds."""
