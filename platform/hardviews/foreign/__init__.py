"""Weights of others: files of other codes as encoders that are evaluated like our own."""
