"""Imports the libraries of a training process, for the process that training processes are forked from.

Nothing here may start a thread, open a connection or touch a GPU: none of these survives a fork.
"""

from collections.abc import Sequence

import s3fs  # noqa: F401

import hardviews.elastic.worker
import hardviews.recipes.overrides
import hardviews.train.loop  # noqa: F401
from hardviews.data.shares import most_processes
from hardviews.launch import TRAININGS
from hardviews.recipes.command import read_pretrain
from hardviews.recipes.finetuning import read_words
from hardviews.tracking.mlflow_import import preload_for_environment

preload_for_environment()


def capacity(words: Sequence[str]) -> tuple[int, str] | None:
    """Return the most processes that a command can use, and the reason; None for a command that does not train.

    Raises:
        UserError: the words are not a command.
    """
    if not words or words[0] not in TRAININGS:
        return None
    _, recipe = (read_pretrain if words[0] == "pretrain" else read_words)(words[1:])
    training = recipe.training
    return most_processes(training.batch, training.group, training.accumulate)
