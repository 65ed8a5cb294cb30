"""The operations page: jobs, progress, workers, failures."""
