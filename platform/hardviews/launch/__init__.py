"""TorchX components, schedulers and the coordinator."""

EVALUATIONS = ("knn", "linear", "fewshot", "transfer", "classify")
TRAININGS = ("pretrain", "finetune")
"""Commands that several processes may run together, beside pretrain."""

PREPARE = "hardviews.launch.preload"
"""Module that each node imports once, before its training processes are forked; its import takes seconds."""
