"""`hardviews bug-report`: records of a run and its machine, in one file without secrets."""
