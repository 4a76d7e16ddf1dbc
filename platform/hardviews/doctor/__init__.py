"""`hardviews doctor`, which examines a machine and its servers; `hardviews bug-report`, which packs a run's records."""
