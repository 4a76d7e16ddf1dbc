"""The names of an exported encoder's files, for code that only checks whether they exist."""

WEIGHTS = "encoder.safetensors"
CLASSIFIER = "classifier.safetensors"
"""File of the classifier, if the training was by labels."""
DESCRIPTION = "encoder.json"
"""File of the description, which is written last."""
IMPORT = "import.json"
"""File beside the folder of an imported encoder, with its origin (`foreign.record`)."""
