"""One MLflow run per job, through every restart."""
