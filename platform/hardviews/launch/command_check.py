"""Checks a command of a job as the processes of the job would, without running it.

`python -m hardviews.launch.command_check` is started before a job is submitted: to read a recipe takes seconds of
imports, which the submission itself does not need. It reads lines of JSON, and answers each with one line:

1. `Job` -> {"mistakes": [...], "unchecked": [...]}: mistakes in the words of the command, and what was not checked.
2. {"store": variables or null} -> {"mistakes": [...], "remarks": [...], "unseen": reason or null}: findings about the
   places of the last job.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hardviews.elastic.watchdog import Limits
from hardviews.errors import UserError
from hardviews.extras import TRAIN, MissingExtra, install, need_torch
from hardviews.launch import EVALUATIONS
from hardviews.launch.address_space import check_address_space
from hardviews.launch.invited import Invited
from hardviews.launch.run_options import misplaced
from hardviews.settings_only import read_settings_only
from hardviews.storage.patience import VARIABLE, usual
from hardviews.storage.sight import Remark
from hardviews.storage.url import cache_room, protocol_of
from hardviews.tracking.settings import TRACKING_URI, setting
from hardviews.tracking.uri import check_uri

if TYPE_CHECKING:
    from hardviews.data.reader import ReaderConfig
    from hardviews.evaluation.scoring import Scoring
    from hardviews.runs.where import Where
    from hardviews.train.recipe import Recipe

STORE_BOUND = 30.0  # seconds for all requests to a store

_J = "-j {least}:{most}x{processes}"
_MB = 10**6


@dataclass(frozen=True)
class Job:
    """The facts of a job that its command must fit.

    Attributes:
        words: words of the command, without `hardviews`.
        nodes: least, most, and processes on each; None if the command runs in one process without an agent.
        scratch: local disk of a pod in MB, with the cache of shards on it; None for any size.
        gpu: GPUs of a node, None if unknown.
        here: whether its processes run on this machine, in this folder and environment.
        variables: environment variables of the job.
    """

    words: list[str]
    nodes: tuple[int, int, int] | None = None
    scratch: int | None = None
    gpu: int | None = None
    here: bool = False
    variables: dict[str, str] = field(default_factory=dict)


Look = Callable[[], Iterator[str]]


def check_words(words: Sequence[str], nodes: Invited, form: str) -> None:
    """Refuse the words of a command that every node would refuse, and more processes than a batch has groups.

    Raises:
        UserError: the command is refused; the message is the node's.
    """
    if words[0] in EVALUATIONS:
        _read_evaluation(words[0], words[1:]).places_of_data()
        return
    from hardviews.recipes.command import read_pretrain
    from hardviews.recipes.finetuning import read_words

    training = (read_pretrain if words[0] == "pretrain" else read_words)(words[1:])[1].training
    nodes.check(training.batch, training.group, training.accumulate, form)


def check(job: Job) -> tuple[list[str], Look | None]:
    """Return the mistakes in a command, and a function that checks its places if the command can be read."""
    command, words = job.words[0], job.words[1:]
    if job.here:
        try:
            check_address_space(command)
            if command != "pack":
                need_torch(f"hardviews {command}")
        except UserError as error:
            return [str(error)], None  # the libraries that read the words cannot be loaded either
    found = list(_environment(job))
    look: Look | None = None
    try:
        if command == "pretrain":
            wrong, look = _pretrain(job, words)
        elif command == "finetune":
            wrong, look = _finetune(job, words)
        elif command in EVALUATIONS:
            wrong, look = _evaluation(job, command, words)
        elif command == "pack":
            wrong, look = _packing(job, words)
        else:
            wrong = []
    except UserError as error:
        wrong = [f"{error}{misplaced(words)}"]
    except SystemExit:
        wrong = [f"The words of {command} ask for its help. See it here: hardviews {command} --help"]
    return [*found, *wrong], look


def _environment(job: Job) -> Iterator[str]:
    """Yield the mistakes in the environment variables of the job's processes."""
    variables = dict(os.environ) | job.variables if job.here else job.variables
    yield from _said(lambda: usual(variables))
    if job.nodes is not None:
        yield from _said(lambda: Limits.read(variables))
    uri = setting(TRACKING_URI, variables)
    if job.here and uri is not None:
        yield from _said(lambda: check_uri(uri))


def _pretrain(job: Job, words: Sequence[str]) -> tuple[list[str], Look | None]:
    from hardviews.recipes.command import read_pretrain
    from hardviews.train.places import look_at_run
    from hardviews.train.trainer import without_numbers

    where, recipe = read_pretrain(words)
    found = _training(job, where, recipe)
    return found + _said(lambda: without_numbers(recipe)), lambda: look_at_run(where, recipe, job.here)


def _training(job: Job, where: "Where", recipe: "Recipe") -> list[str]:
    """Return the mistakes of a training in its words, for any network."""
    training, found = recipe.training, []
    if job.nodes is not None:
        nodes = Invited(*job.nodes)
        found += _said(lambda: nodes.check(training.batch, training.group, training.accumulate, _J))
    found += _said(lambda: where.check_apart(where.data))
    found += _cache(job.scratch, where.data, recipe.loader.reader)
    found += _gpu(job, "precision.device", recipe.precision.device, "a trainer")
    if job.here:
        processes = 1 if job.nodes is None else job.nodes[2]
        found += _said(lambda: recipe.precision.choose_device(processes - 1))
    return found


def _finetune(job: Job, words: Sequence[str]) -> tuple[list[str], Look | None]:
    from hardviews.recipes.finetuning import read_words
    from hardviews.train.places import look_at_finetuning

    read, recipe = read_words(words)
    where = read.where(read.data)
    return _training(job, where, recipe), lambda: look_at_finetuning(where, job.here)


def _cache(scratch: int | None, data: str, reader: "ReaderConfig") -> Iterator[str]:
    """Compare the bound of the cache of shards with its local disk."""
    local = protocol_of(data) in ("file", "local") and not data.startswith("<")
    if scratch is None or scratch <= 0 or local or reader.cache_folder is not None:
        return
    room = cache_room(scratch * _MB)
    if reader.cache_bytes > room:
        least = -(-reader.cache_bytes * 100 // (95 * _MB))
        yield (
            f"The cache of shards may take {reader.cache_bytes} bytes, and the pod's local disk has {scratch} MB "
            "(scratch): the pod would be evicted once it is full. Give -- --loader.reader.cache-bytes "
            f"{room} or less, or a disk of at least {least} MB: --scratch {least}."
        )


def _evaluation(job: Job, command: str, words: Sequence[str]) -> tuple[list[str], Look | None]:
    from hardviews.data.places import look_at_evaluation
    from hardviews.evaluation.checks import choose_device
    from hardviews.storage.sight import seen

    read = _read_evaluation(command, words)
    found = _said(lambda: read.places_of_data())
    found += _gpu(job, "device", read.device, "the evaluation")
    if job.here:
        last = 0 if job.nodes is None else job.nodes[2] - 1
        found += _said(lambda: choose_device(read.device, last))
    run = read.place if read.waits else None
    return found, lambda: look_at_evaluation(seen(read.located).places_of_data(), run, job.here, read.wait)


def _read_evaluation(command: str, words: Sequence[str]) -> "Scoring":
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.classify import Classify
    from hardviews.evaluation.probes.fewshot import Fewshot
    from hardviews.evaluation.probes.knn import Knn
    from hardviews.evaluation.probes.linear import Linear
    from hardviews.evaluation.probes.transfer import Transfer

    kinds: dict[str, type[Scoring]] = {
        "knn": Knn,
        "linear": Linear,
        "fewshot": Fewshot,
        "transfer": Transfer,
        "classify": Classify,
    }
    return parse(kinds[command], words, command)


def _packing(job: Job, words: Sequence[str]) -> tuple[list[str], Look | None]:
    from hardviews.arguments import parse
    from hardviews.data.pack_command import Packing
    from hardviews.data.places import look_at_packing
    from hardviews.data.torchvision_options import check_torchvision

    read = parse(Packing, words, "pack")
    name = read.torchvision
    found = [] if name is None else _said(lambda: check_torchvision(name))
    return found, lambda: look_at_packing(read, job.here)


def _said(call: Callable[[], object]) -> list[str]:
    """Return the message of a user's mistake that a call raises, if any; see `unchecked` for a check without torch."""
    try:
        call()
    except MissingExtra:
        return []
    except UserError as error:
        return [str(error)]
    return []


def unchecked(words: Sequence[str]) -> list[str]:
    """Return what of a command is not checked in an installation without torch."""
    things = {
        "pretrain": "the names of network and optimizer, and whether method, strategy and network fit together",
        "finetune": "the name of the optimizer",
    }
    thing = "the name of the torchvision data set" if "--torchvision" in words else things.get(words[0])
    return [f"{thing} (this needs torch, {install(TRAIN)})"] if thing else []


def _gpu(job: Job, setting: str, device: str, who: str) -> list[str]:
    if device != "cuda" or job.gpu != 0:
        return []
    return [
        f"--{setting} is cuda, but {who} of this job has no GPU. Give --gpu and a number, or -- --{setting} cpu (or "
        "auto)."
    ]


def look_at(places: Look | None, store: Mapping[str, str] | None) -> dict[str, Any]:
    """Check the places of a command, with the variables of a store; null checks nothing."""
    found: list[str] = []
    unseen: list[str] = []
    if places is None or store is None:
        return {"mistakes": found, "remarks": [], "unseen": None}
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(store)

    def look() -> None:
        from hardviews.storage.sight import PATIENCE, Unseen

        os.environ[VARIABLE] = str(PATIENCE)
        try:
            found.extend(places())
        except Unseen as error:
            unseen.append(str(error))
        except Exception as error:  # any error of a client: the pods check for themselves
            unseen.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(STORE_BOUND)
    if thread.is_alive():
        unseen.append(f"the store took more than {STORE_BOUND:.0f} s")
    remarks = [text for text in found if isinstance(text, Remark)]
    mistakes = [text for text in found if not isinstance(text, Remark)]
    return {"mistakes": mistakes, "remarks": remarks, "unseen": unseen[0] if unseen else None}


def main() -> None:
    """Answer questions until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    places: Look | None = None
    client = read_settings_only()
    # Output of a library or a help text must not be taken for an answer.
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            question = json.loads(line)
            if "store" in question:
                answer = look_at(places, question["store"])
            else:
                job = Job(**question)
                mistakes, places = check(job)
                answer = {"mistakes": mistakes, "unchecked": unchecked(job.words) if client else []}
            print(json.dumps(answer), file=answers, flush=True)
    # A thread that still waits for a store must not delay the end.
    os._exit(0)


if __name__ == "__main__":
    main()
