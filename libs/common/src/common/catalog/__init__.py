"""Identity of catalog things, and the tables of the catalog database."""
