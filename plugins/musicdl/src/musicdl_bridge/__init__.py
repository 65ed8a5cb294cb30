"""Sources that search with the library musicdl, which runs in a process of its own."""
