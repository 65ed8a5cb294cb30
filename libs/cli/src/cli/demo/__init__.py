"""A small library of computed melodies, for a first try without any music of one's own."""
