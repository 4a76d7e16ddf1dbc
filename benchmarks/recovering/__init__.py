"""Parts of `benchmarks/recovery.py`: jobs to disturb, the processes of a machine, and how to read a timeline."""
