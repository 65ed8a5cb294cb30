"""How the resolver's statistics became what they are."""
