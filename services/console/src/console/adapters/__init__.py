"""What the console touches: its database, the bus."""
