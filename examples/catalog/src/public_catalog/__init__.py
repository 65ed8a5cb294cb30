"""A public catalog: pages, search and playback over a mirrored snapshot."""
