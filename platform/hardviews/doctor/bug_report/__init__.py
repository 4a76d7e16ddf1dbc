"""`hardviews bug-report`: what a run and its machine hold, in one file without secrets."""
