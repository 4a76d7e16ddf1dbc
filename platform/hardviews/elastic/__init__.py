"""The elastic runtime: agents and a coordinator that take training processes from round to round."""
