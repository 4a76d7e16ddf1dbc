"""Exports of an encoder to other libraries, one format a file, and the model card."""
