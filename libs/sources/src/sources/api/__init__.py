"""What all sources behind an HTTP API share: a bounded client, patience, and answers that nobody vouches for."""
