"""What touches the world: the record (a database), and the streams it follows."""
