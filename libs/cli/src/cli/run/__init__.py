"""`music-cloud run`: everything on this machine, and the main job in front of your eyes."""
