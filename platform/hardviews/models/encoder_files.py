"""The names of an exported encoder's files, for those who only look whether they are there."""

WEIGHTS = "encoder.safetensors"
CLASSIFIER = "classifier.safetensors"
"""It is there if the training was by labels."""
DESCRIPTION = "encoder.json"
"""It is written last."""
IMPORT = "import.json"
"""Beside the folder of an encoder that was imported: where it comes from (`foreign.record`)."""
