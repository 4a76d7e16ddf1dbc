"""Parts of `benchmarks/recovery.py`: jobs to disturb, the processes of a machine, and what a timeline tells."""
