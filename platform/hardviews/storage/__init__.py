"""Files by URL: on this machine, on S3, and wherever else fsspec reaches."""
