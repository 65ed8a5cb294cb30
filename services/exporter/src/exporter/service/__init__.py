"""What the exporter decides: which rows follow from the facts, and what a snapshot of them holds."""
