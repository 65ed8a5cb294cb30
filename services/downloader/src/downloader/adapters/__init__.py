"""What touches the world: the network, the spool, the library, decoders."""
