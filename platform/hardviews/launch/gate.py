"""Hold a job's coordinator back until the needs of the job exist; then become the coordinator.

On a cluster the other pods of the job, which may have GPUs, are created once the coordinator listens. While it waits
they do not exist. It does not import torch, and needs as little memory as a coordinator.

`python -m hardviews.launch.gate --wait 3600 --run s3://BUCKET/RUN -- --host 0.0.0.0 --port 29500`
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from hardviews import streams
from hardviews.elastic.coordinator import FAILED, leave_word
from hardviews.errors import UserError
from hardviews.runs.waiting import Awaited, Dataset, EncoderOfRun, wait_for

COORDINATOR = "hardviews.elastic.coordinator"


def awaited(words: Sequence[str]) -> tuple[list[Awaited], float, list[str]]:
    """Read the command line: the awaited things, the seconds to wait, and the arguments of the coordinator."""
    parser = argparse.ArgumentParser(description="Wait for what a job needs, then host its rendezvous.")
    parser.add_argument("--wait", type=float, required=True, metavar="SECONDS", help="at most")
    parser.add_argument("--data", metavar="URL", help="a packed dataset")
    parser.add_argument("--parts", default="train", help="of the dataset, with commas (default: %(default)s)")
    parser.add_argument("--run", metavar="URL", help="a run whose encoder is waited for")
    parser.add_argument("--checkpoint", action="store_true", help="any checkpoint of the run will do")
    parser.add_argument("coordinator", nargs="*", help="arguments of the coordinator, after --")
    options = parser.parse_args(words)
    things: list[Awaited] = []
    if options.data:
        things.append(Dataset(options.data, options.parts.split(",")))
    if options.run:
        things.append(EncoderOfRun(options.run, options.checkpoint))
    return things, options.wait, options.coordinator


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    """Wait, then replace this process by the coordinator; return an exit code if an awaited thing does not come."""
    streams.prepare()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container has no handler by default
    things, seconds, arguments = awaited(sys.argv[1:] if words is None else words)
    try:
        wait_for(things, seconds)
    except UserError as error:
        print(f"the job failed: {error}", file=sys.stderr, flush=True)
        leave_word(str(error))
        return FAILED
    os.execv(sys.executable, [sys.executable, "-m", COORDINATOR, *arguments])


if __name__ == "__main__":
    sys.exit(main())
