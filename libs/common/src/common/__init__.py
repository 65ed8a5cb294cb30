"""What the services share: contracts, the bus, the work loop, catalog tables, storage."""
