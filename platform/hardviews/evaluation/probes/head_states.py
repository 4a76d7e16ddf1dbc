"""Stored heads in training, from which a killed evaluation goes on.

A folder for each training: `step-N/part-R-of-W.safetensors`, the heads of each of W processes at a step, and
`state.json`, which is written last and names the step. With `--peek` also `epoch-N/...`: the heads after each epoch.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hardviews.errors import UserError
from hardviews.storage.failures import Denied
from hardviews.storage.store import Store, open_store
from hardviews.storage.url import cache_folder
from hardviews.tracking.job import JOB
from hardviews.tracking.settings import setting
from hardviews.world import World

logger = logging.getLogger(__name__)

Heads = Mapping[int, Mapping[str, Tensor]]
"""Tensors by name, of heads by their number."""

_INDEX = "state.json"
_FOLDER = "linear-heads"
_SHARE = 0.05  # share of the time for storing heads
_FORGOTTEN = 14 * 86400.0  # seconds after which a folder on this machine that nobody went on with is removed


class HeadStates:
    """The trainings of one evaluation in a store that all processes reach; every rank makes the same calls."""

    def __init__(self, store: Store, world: World, every: float = 60.0) -> None:
        """every: seconds between two times that heads are kept, more if keeping them takes long; 0 for every step."""
        self._store, self._world, self._every = store, world, every
        self._kept: list[Training] = []

    def training(self, **settings: Any) -> "Training":
        """Return the place of a training, by all that its heads depend on."""
        digest = hashlib.sha256(json.dumps([1, settings], sort_keys=True).encode()).hexdigest()
        self._kept.append(Training(self._store.inside(digest[:32]), self._world, self._every))
        return self._kept[-1]

    def clear(self) -> None:
        """Remove all that this evaluation kept: it is over."""
        if self._world.leads:
            for training in self._kept:
                training.remove()
            self._store.remove_if_empty()


class Training:
    """The heads of one training, at a step and after epochs."""

    def __init__(self, store: Store, world: World, every: float) -> None:
        self._store, self._world, self._every = store, world, every
        self._last, self._cost = time.monotonic(), 0.0

    def due(self) -> bool:
        """Return whether it is time to keep the heads again, the same on all ranks."""
        wanted = self._every and max(self._every, self._cost / _SHARE)
        return self._world.agree(time.monotonic() - self._last >= wanted)

    def keep(self, step: int, mine: Heads) -> None:
        """Keep the heads of all ranks; whoever is killed meanwhile goes on from the step before."""
        began = time.monotonic()
        before = self._read_index() if self._world.leads else None
        if self._write(f"step-{step:08d}", mine) and self._world.leads:
            self._store.write(_INDEX, json.dumps({"step": step, "parts": self._world.size}).encode())
            if before is not None and before["step"] != step:
                self._store.remove_folder(f"step-{before['step']:08d}")
        self._last = time.monotonic()
        self._cost = self._last - began

    def resume(self) -> tuple[int, Heads]:
        """Return the step that was kept and the heads of all ranks; 0 and none, unless all ranks can read them."""
        step, heads = 0, dict[int, Mapping[str, Tensor]]()
        try:
            index = self._read_index()
            if index is not None:
                heads, step = self._read(f"step-{index['step']:08d}", index["parts"]), int(index["step"])
        except (FileNotFoundError, SafetensorError, ValueError, KeyError) as error:
            logger.warning(
                "The heads that were kept in %s cannot be read (%s): they begin anew.", self._store.url, error
            )
            step, heads = 0, {}
        steps = self._world.together(lambda: step)
        return (step, heads) if set(steps) == {step} else (0, {})

    def keep_epoch(self, epoch: int, mine: Heads) -> None:
        """Keep the heads after an epoch, until the end of the evaluation."""
        self._write(f"epoch-{epoch:06d}", mine)

    def epoch(self, epoch: int) -> Heads:
        """Return the heads after an epoch, of all ranks, whichever number of processes kept them."""
        folder = f"epoch-{epoch:06d}"
        names = self._store.inside(folder).files()
        counts = {int(name.split("-")[3].split(".")[0]) for name in names if name.startswith("part-")}
        whole = [count for count in sorted(counts) if all(_part(rank, count) in names for rank in range(count))]
        return self._read(folder, whole[0]) if whole else {}

    def remove(self) -> None:
        """Remove the heads."""
        above, _, name = self._store.url.rpartition("/")
        open_store(above).remove_folder(name)

    def _write(self, folder: str, mine: Heads) -> bool:
        """Write this rank's part; return whether all ranks did. A store that fails costs the keeping alone."""
        tensors = {f"{number}.{name}": value for number, one in mine.items() for name, value in one.items()}
        data = safetensors.torch.save({key: value.cpu().contiguous() for key, value in tensors.items()})
        written = 1
        try:
            self._store.write(f"{folder}/{_part(self._world.rank, self._world.size)}", data)
        except UserError as error:
            logger.warning("%s Heads in training are not kept this time.", error)
            written = 0
        return all(self._world.together(lambda: written))

    def _read(self, folder: str, parts: int) -> dict[int, Mapping[str, Tensor]]:
        found: dict[int, dict[str, Tensor]] = {}
        for rank in range(parts):
            for key, value in safetensors.torch.load(self._store.read(f"{folder}/{_part(rank, parts)}")).items():
                number, _, name = key.partition(".")
                found.setdefault(int(number), {})[name] = value
        return dict(found)

    def _read_index(self) -> dict[str, int] | None:
        try:
            index: dict[str, int] = json.loads(self._store.read(_INDEX))
            return index
        except (FileNotFoundError, NotADirectoryError, Denied):
            return None


def open_states(output: str, world: World, every: float) -> HeadStates:
    """Return the folder in which an evaluation keeps its heads; every rank calls this.

    In a job of a cluster that is the folder `linear-heads` of the run's output, if it can be written: the disk of a pod
    goes with it. Otherwise it is the cache of this machine.

    `output`: address of the encoder.
    """
    remote = world.agree(world.leads and _lasts(output))
    url = f"{output.rstrip('/')}/{_FOLDER}" if remote else str(Path(cache_folder()) / _FOLDER)
    if not remote and world.leads:
        _forget(Path(url))
    return HeadStates(open_store(url), world, every)


def _lasts(output: str) -> bool:
    """Return whether this is a job of a cluster, and the output of the run a folder that outlasts it."""
    job = setting(JOB)
    if job is None or output.startswith("timm:") or output.endswith(".safetensors"):
        return False
    try:
        store = open_store(output)
        if store.local and not (job.startswith("kubernetes") and Path(str(store.path)).is_dir()):
            return False
        store.check_writable()
    except UserError as error:
        logger.warning("%s Heads in training are kept on this machine.", error)
        return False
    return True


def _forget(folder: Path) -> None:
    """Remove trainings that nobody went on with for two weeks."""
    for index in folder.glob(f"*/{_INDEX}"):
        try:
            old = time.time() - index.stat().st_mtime > _FORGOTTEN
        except OSError:
            continue  # another evaluation removed it this moment
        if old:
            open_store(str(folder)).remove_folder(index.parent.name)


def _part(rank: int, size: int) -> str:
    return f"part-{rank}-of-{size}.safetensors"
