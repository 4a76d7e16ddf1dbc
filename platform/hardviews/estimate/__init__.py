"""Cost of a recipe before it is run: passes, FLOPs, memory and hours, without a GPU and without data."""
