"""Packed shards, the pure order of samples, and the reader."""
