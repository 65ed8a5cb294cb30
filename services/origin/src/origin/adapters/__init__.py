"""What touches the world: files."""
