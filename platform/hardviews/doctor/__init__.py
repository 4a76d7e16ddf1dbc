"""`hardviews doctor`, which looks at a machine and its servers, and `hardviews bug-report`, which packs what it saw."""
