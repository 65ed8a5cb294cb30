"""A mirror of a music-cloud catalog: ``mirror.format`` is the format of snapshots, the rest fetches and keeps them."""
