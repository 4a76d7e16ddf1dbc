"""The coordinator: a tiny process that hosts the rendezvous of a job and knows when the job is over.

It trains nothing, so a job survives the loss of any process that does. Trainers tell it the outcome:

* `announce_done`: the training is complete. The coordinator waits for the agents to leave and exits with 0.
* `announce_failure`: no restart can help. The coordinator shows the reason to all agents and exits with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch.distributed import DistError, Store

from hardviews.launch.address import address
from hardviews.launch.store import connect, listen

FINISHED = "hardviews/finished"  # number of agents in the round that finished
FAILED = "hardviews/failed"  # why no restart can help
ARRIVED = "hardviews/arrived"  # counter: agents that came
LEFT = "hardviews/left"  # counter: agents that went after the job was over
PULSE = "hardviews/pulse"  # counter: moves while an agent lives


@dataclass(frozen=True)
class CoordinatorConfig:
    """What the coordinator listens on and how long it waits; times in seconds."""

    host: str = "127.0.0.1"
    port: int = 29500
    shared: bool = False  # the port is reserved for us by the process that launched us
    patience: float = 0.0  # without any living agent for so long the job has failed; 0: wait for ever
    linger: float = 30.0  # after the end, at most so long for the agents to leave
    interval: float = 0.2


def announce_done() -> None:
    """Tells the coordinator that the training is complete; for rank 0. Without a coordinator nothing happens."""
    store = _coordinator()
    if store is not None:
        store.set(FINISHED, os.environ.get("GROUP_WORLD_SIZE", "1"))


def announce_failure(reason: str) -> None:
    """Tells the coordinator why no restart can help: the job ends. Nothing happens without a coordinator."""
    store = _coordinator()
    if store is not None:
        store.set(FAILED, reason)


def _coordinator() -> Store | None:
    place = address(os.environ)
    return connect(*place, patience=10) if place else None


def serve(config: CoordinatorConfig) -> str | None:
    """Hosts the store until the job is over.

    Returns:
        None when the job is done, else why it failed.

    Raises:
        OSError: the port is taken.
    """
    store = listen(config.host, config.port, config.shared)
    launcher = os.getppid()
    pulse, moved = 0, time.monotonic()
    while True:
        if store.check([FAILED]):
            _await_departures(store, store.add(ARRIVED, 0), min(5.0, config.linger), config.interval)
            return store.get(FAILED).decode()
        if store.check([FINISHED]):
            _await_departures(store, int(store.get(FINISHED)), config.linger, config.interval)
            return None
        if os.getppid() != launcher:
            return "the process that launched the job is gone"
        now = time.monotonic()
        if (count := store.add(PULSE, 0)) != pulse:
            pulse, moved = count, now
        elif config.patience and now - moved > config.patience:
            return f"no trainer has been alive for {config.patience:.0f} s"
        time.sleep(config.interval)


def _await_departures(store: Store, agents: int, seconds: float, interval: float) -> None:
    deadline = time.monotonic() + seconds
    while store.add(LEFT, 0) < agents and time.monotonic() < deadline:
        time.sleep(interval)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the coordinator: `python -m hardviews.launch.coordinator`.

    Where HARDVIEWS_RENDEZVOUS is set (all processes on one machine), it overrides the address.
    """
    default = CoordinatorConfig()
    parser = argparse.ArgumentParser(description="Host the rendezvous of one job until it is over.")
    parser.add_argument("--host", default=default.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=default.port, help="default: %(default)s")
    options = parser.parse_args(arguments)
    place = address(os.environ)
    config = (
        CoordinatorConfig(place[0], place[1], shared=True, patience=60)
        if place
        else CoordinatorConfig(options.host, options.port)
    )
    try:
        failure = serve(config)
    except OSError as error:
        failure = f"cannot listen on {config.host}:{config.port} ({error.strerror}); give another --port"
    except DistError as error:
        failure = f"the store failed: {error}"
    if failure is not None:
        print(f"the job failed: {failure}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
