"""Imports what a training process needs, for the process that training processes are forked from.

Nothing here may start a thread, open a connection or touch a GPU: none of these survives a fork.
"""

import s3fs  # noqa: F401

import hardviews.cli
import hardviews.launch.worker
import hardviews.recipes.overrides
import hardviews.train.loop  # noqa: F401
from hardviews.tracking.preload import preload_for_environment

preload_for_environment()
