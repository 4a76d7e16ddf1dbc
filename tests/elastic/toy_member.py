"""A training job without torch, so that its nodes start in a moment: processes that meet once a step.

Run by the agent as `tests.elastic.toy_member FOLDER [OPTION ...]`. Rank 0 listens at the round's address, the others
connect. All agree on a stop; rank 0 saves the step to FOLDER/saved then and every ten steps, and all go on from there.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hardviews.elastic.worker import EVICTED, last_reached, leaving, reached, supervised
from hardviews.errors import UserError

if os.environ.get("TOY_IS_TOO_LARGE"):
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does while libraries load, if memory runs out


def meet(rank: int, world: int) -> Callable[[bool], bool]:
    """Connect all processes; return the object that reports whether any of them was asked to stop."""
    place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if rank > 0:
        while True:
            try:
                link = socket.create_connection(place, timeout=60)
                break
            except ConnectionRefusedError:
                time.sleep(0.02)

        def ask(stop: bool) -> bool:
            link.sendall(b"1" if stop else b"0")
            answer = link.recv(1)
            if not answer:
                raise ConnectionError("rank 0 is gone")
            return answer == b"1"

        return ask
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.bind(place)
    server.listen()
    links = [server.accept()[0] for _ in range(world - 1)]

    def collect(stop: bool) -> bool:
        answers = [link.recv(1) for link in links]
        if b"" in answers:
            raise ConnectionError("a peer is gone")
        asked = stop or b"1" in answers
        for link in links:
            link.sendall(b"1" if asked else b"0")
        return asked

    return collect


def train(folder: Path, options: argparse.Namespace) -> None:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    ask = meet(rank, world)
    parent = multiprocessing.parent_process()
    saved = folder / "saved"
    step = int(saved.read_text()) if saved.exists() else 0
    note = {"node": os.environ["HARDVIEWS_NODE"], "rank": rank, "world": world, "pid": os.getpid(), "began": step}
    note |= {"agent": parent.pid if parent else None, "round": int(os.environ["HARDVIEWS_ROUND"])}
    note |= {"time": time.time(), "last_reached": last_reached()}
    with (folder / "lives").open("a") as lives:
        lives.write(json.dumps(note) + "\n")
    if options.fail_user:
        raise UserError("The data is not there. Put it there.")
    if options.fail:
        raise ValueError("a mistake in the code")
    while not (folder / "enough").exists():
        time.sleep(0.02)
        if (folder / f"hang-{rank}").exists():
            (folder / f"hang-{rank}").unlink()
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        stop = ask(bool(asked))
        step += 1
        reached(step, 10)
        if rank == 0:
            with (folder / "steps").open("a") as steps:
                steps.write(json.dumps({"step": step, "world": world, "time": time.time()}) + "\n")
        if stop:
            leaving()
        if rank == 0 and (stop or step % 10 == 0):
            (folder / "saving").write_text(str(step))
            (folder / "saving").replace(saved)
        if stop:
            ask(True)  # all wait for the save
            raise SystemExit(EVICTED)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail-user", action="store_true")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--most", type=int, help="processes")
    return parser.parse_args(words)


def capacity(words: Sequence[str]) -> tuple[int, str] | None:
    """The agent asks for this before it wants into a round."""
    most = arguments(words).most
    return None if most is None else (most, f"the toy is enough for {most}")


def main() -> int:
    options = arguments()
    try:
        with supervised():
            train(options.folder, options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except ConnectionError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
