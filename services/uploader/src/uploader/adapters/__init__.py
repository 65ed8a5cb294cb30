"""What touches the world: folders and the object store."""
