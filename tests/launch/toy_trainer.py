"""A training job of one second: every process adds ones over all processes and notes what it saw.

Run by the agent as `tests.launch.toy_trainer FOLDER [--fail-user | --fail | --sleep SECONDS]`.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import distributed

from hardviews.errors import UserError
from hardviews.launch.store import worker_store
from hardviews.launch.worker import supervised


def train(folder: Path, options: argparse.Namespace) -> None:
    store, rank, world = worker_store()
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    ones = torch.ones(1)
    distributed.all_reduce(ones)
    note = {"rank": rank, "world": world, "sum": ones.item(), "pid": os.getpid(), "agent": os.getppid()}
    note |= {"threads": os.environ["OMP_NUM_THREADS"], "restarts": os.environ["TORCHELASTIC_RESTART_COUNT"]}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(note))
    if options.fail_user:
        raise UserError("The data is not there. Put it there.")
    if options.fail:
        raise RuntimeError("a mistake in the code")
    # Steps, since a process notices the loss of another one only where they meet.
    for _ in range(int(10 * options.sleep)):
        distributed.all_reduce(ones)
        time.sleep(0.1)
    distributed.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail-user", action="store_true")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--sleep", type=float, default=0)
    options = parser.parse_args()
    try:
        with supervised():
            train(options.folder, options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
