"""The Python interface: the commands as functions for a notebook or a program."""
