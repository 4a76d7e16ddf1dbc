"""TorchX components, schedulers and the coordinator."""

PREPARE = "hardviews.launch.preload"
"""Module that each node imports once, before its training processes are forked; its import takes seconds."""
