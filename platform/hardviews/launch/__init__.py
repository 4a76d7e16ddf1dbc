"""TorchX components, schedulers and the coordinator."""

EVALUATIONS = ("knn", "linear", "fewshot", "transfer", "classify")
TRAININGS = ("pretrain", "finetune")
"""Commands besides pretrain that several processes may run together."""

PREPARE = "hardviews.launch.preload"
"""Module that each node imports once, before its training processes are forked; its import takes seconds."""
