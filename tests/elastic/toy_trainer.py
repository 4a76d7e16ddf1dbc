"""A training job of a moment: its processes add ones over all processes and note their values, step by step.

Run by the agent as `tests.elastic.toy_trainer FOLDER [OPTION ...]`. It saves its step to FOLDER/saved every `--save`
steps, and on SIGTERM, agreed by all; it goes on from there.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import distributed

from hardviews.elastic.environment import launched
from hardviews.elastic.tcp_store import worker_store
from hardviews.elastic.worker import EVICTED, leaving, reached, supervised
from hardviews.errors import UserError


def train(folder: Path, options: argparse.Namespace) -> None:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    me = launched()
    store, rank, world = worker_store(me), me.rank, me.size
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    ones = torch.ones(1)
    distributed.all_reduce(ones)
    saved = folder / "saved"
    step = int(saved.read_text()) if saved.exists() else 0
    note = {"rank": rank, "world": world, "sum": ones.item(), "pid": os.getpid(), "began": step}
    parent = multiprocessing.parent_process()
    note |= {
        "agent": parent.pid if parent else None,
        "threads": os.environ["OMP_NUM_THREADS"],
        "node": os.environ.get("HARDVIEWS_NODE"),
    }
    note |= {"restarts": os.environ["TORCHELASTIC_RESTART_COUNT"], "time": time.time()}
    (folder / f"{os.getpid()}.json").write_text(json.dumps(note))
    if options.fail_user:
        raise UserError("The data is not there. Put it there.")
    if options.fail:
        raise ValueError("a mistake in the code")
    while step < options.steps:
        time.sleep(options.pace)
        told = torch.tensor([float(bool(asked))])
        distributed.all_reduce(told)
        step += 1
        reached(step)
        if rank == 0:
            with (folder / "steps").open("a") as lines:
                lines.write(f"{step} {world} {time.time()}\n")
        stop = told.item() > 0
        if stop:
            leaving()
        if rank == 0 and (stop or step % options.save == 0):
            (folder / "saving").write_text(str(step))
            (folder / "saving").replace(saved)
        if stop:
            distributed.barrier()
            raise SystemExit(EVICTED)
    distributed.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail-user", action="store_true")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--pace", type=float, default=0.05, help="seconds a step")
    parser.add_argument("--save", type=int, default=1000)
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
