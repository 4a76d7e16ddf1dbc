"""The Python interface: what the commands do, as functions for a notebook or a program."""
