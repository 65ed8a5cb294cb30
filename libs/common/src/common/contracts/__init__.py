"""Every message on the bus, defined once. This package imports only pydantic."""
