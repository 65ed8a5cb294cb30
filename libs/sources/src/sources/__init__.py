"""Sources: where playlists are listed and songs are found. The collector lists, the downloader resolves."""
