"""``music-cloud adopt``: moving in from the older system."""
