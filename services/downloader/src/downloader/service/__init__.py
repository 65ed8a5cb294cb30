"""The decisions of the service: no I/O here."""
