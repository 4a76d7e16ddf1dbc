"""Files by URL: on this machine, on S3, and in other places that fsspec reaches."""
