"""The jobs as TorchX applications: roles, commands, resources. Pure except for the site's values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torchx.specs import AppDef, Resource, Role, macros, parse_mounts

from hardviews.errors import UserError
from hardviews.launch import PREPARE
from hardviews.launch.pod_options import PodOptions
from hardviews.launch.site import DATA, IMAGE, OUTPUT, TRACKING
from hardviews.storage.sight import remote

COMMAND = "hardviews.cli"
PORT = 29500  # port of the coordinator, if it has its own network address
COORDINATOR = "hardviews.elastic.coordinator"
GATE = "hardviews.launch.gate"
AGENT = "hardviews.elastic.agent"
HEADS = (COORDINATOR, GATE)
"""Modules of the role that decides on the begin and the end of a job."""

_GRACE = 30  # seconds for the processes of an evaluation, which save their results as they go
_QUIET = {"LOGLEVEL": "WARNING", "TORCH_CPP_LOG_LEVEL": "ERROR"}
_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}  # a file random.py in the current folder must not replace Python's own


def _coordinator_resource(nodes: int) -> Resource:
    """Return the coordinator's resources, so small that it finds room again after a loss of its node.

    Measured: 10 nodes took 0.013 cores and 24 MB, 50 took 0.1 cores and 28 MB, 200 took 0.9 cores and 55 MB. A reader
    of its metrics adds 4 MB. It may use more while others do not need it.
    """
    thousandths = max(50, (5 * nodes + 1) // 2)  # rounded, as in the chart
    return Resource(cpu=thousandths / 1000, gpu=0, memMB=128)


class Mistaken(UserError):
    """An argument of a component cannot be used; `app` is the job without it, for further checks."""

    def __init__(self, mistakes: Sequence[str], app: AppDef) -> None:
        super().__init__(" ".join(mistakes))
        self.mistakes = list(mistakes)
        self.app = app


def module(role: Role) -> str | None:
    """Return the module of this package that a role's command runs; None for other roles."""
    ours = role.entrypoint == "python" and len(role.args) > 1 and role.args[1].startswith("hardviews.")
    return role.args[1] if ours else None


@dataclass(frozen=True)
class Nodes:
    """The number of nodes of a job, and of processes on each."""

    least: int
    most: int
    processes: int

    @classmethod
    def parse(cls, text: str) -> "Nodes":
        """Read `MIN:MAXxPROCESSES`, `NODESxPROCESSES` or `PROCESSES`, as TorchX's own components do, or `MIN:MAX`."""
        if match := re.fullmatch(r"(?:(?:(\d+):)?(\d+)x)?(\d+)|(\d+):(\d+)", text):
            most = int(match[5] or match[2] or 1)
            nodes = cls(int(match[4] or match[1] or most), most, int(match[3] or 1))
            if nodes.least > nodes.most:
                raise UserError(
                    f"-j {text} asks for at least {nodes.least} nodes and at most {nodes.most}: the first number is "
                    f"the smaller one, as in {nodes.most}:{nodes.least}x{nodes.processes}."
                )
            if nodes.least >= 1 and nodes.processes >= 1:
                return nodes
        raise UserError(
            f"-j {text} does not say how many processes to run. Write MIN:MAXxPROCESSES, for example 1:4x8 "
            "for one to four nodes of eight processes, or 2x8 for exactly two nodes."
        )

    def __str__(self) -> str:
        return f"{self.least}:{self.most}"


def pretraining(
    name: str,
    nodes: str,
    recipe: str,
    overrides: Sequence[str],
    image: str | None,
    data: str | None,
    output: str | None,
    tracking: str | None,
    wait: int,
    resource: Resource,
    env: Mapping[str, str] | None,
    grace: int,
    pod: PodOptions | None = None,
    mounts: Sequence[str] | None = None,
    finetune: str | None = None,
) -> AppDef:
    """Return the elastic training job: a coordinator and up to `nodes.most` trainers.

    Args:
        name: name of the job.
        nodes: see `Nodes.parse`.
        recipe: name of a recipe.
        overrides: further arguments of `hardviews pretrain`.
        image: see `site`, also for data, output and tracking.
        data: URL of the data.
        output: URL of the output.
        tracking: address of the MLflow server.
        wait: seconds to wait for data that are still being packed, and for the encoder.
        resource: resource of one trainer node.
        env: further variables of the trainers.
        grace: seconds between SIGTERM and SIGKILL of a training process.
        pod: needs of the pods on a cluster.
        mounts: mounts of the trainers, in the form of TorchX's components.
        finetune: encoder that is trained further by labels; None pretrains.

    Raises:
        Mistaken: `nodes` or `mounts` cannot be read, or processes and GPUs do not fit.
    """
    place = DATA.resolve(data)
    command = ["pretrain", recipe] if finetune is None else ["finetune", finetune, "--recipe", recipe]
    command += ["--data", place, "--output", OUTPUT.resolve(output)]
    command += ["--wait", str(wait)] if wait else []
    gate = ["--run", finetune] if wait and finetune is not None and remote(finetune) else []
    gate += ["--data", place] if wait and _elsewhere(place) else []
    return _elastic(
        name,
        "trainer",
        nodes,
        [*command, *overrides],
        image,
        resource,
        {TRACKING.variable: TRACKING.resolve(tracking)} | _given(env or {}),
        replace(pod or PodOptions(), grace=grace),
        mounts,
        _Gate(wait, gate),
    )


def evaluation(
    name: str,
    command: str,
    nodes: str | None,
    overrides: Sequence[str],
    image: str | None,
    data: str | None,
    output: str | None,
    tracking: str | None,
    wait: int,
    resource: Resource,
    env: Mapping[str, str] | None,
    pod: PodOptions | None = None,
    mounts: Sequence[str] | None = None,
) -> AppDef:
    """Return a job that evaluates the encoder of a pretraining under `output`: a coordinator and its processes.

    On a cluster the coordinator waits for the data and the encoder, and the pods with the GPUs start after that. For
    `nodes` see `Nodes.parse`; None is one node, with a process for each GPU.
    """
    said = {word.partition("=")[0]: place for place, word in enumerate(overrides) if word.startswith("--")}
    gate: list[str] = []
    words = [command]
    if "--encoder" not in said:
        words += ["--run", OUTPUT.resolve(output)]
        gate += ["--run", words[-1]] if _elsewhere(words[-1]) else []
    words += ["--data", DATA.resolve(data), "--wait", str(wait), *overrides]
    if gate and "--checkpoint" in said:
        gate += ["--checkpoint"]
    place = DATA.resolve(data)
    if _elsewhere(place) and not said.keys() & {"--data", "--train", "--test", "--sets"}:
        gate += ["--data", place, "--parts", "test" if command == "classify" else "train,test"]
    return _elastic(
        name,
        "evaluation",
        str(max(1, resource.gpu)) if nodes is None else nodes,
        words,
        image,
        resource,
        {TRACKING.variable: TRACKING.resolve(tracking)} | _given(env or {}),
        replace(pod or PodOptions(), grace=_GRACE),
        mounts,
        _Gate(wait, gate),
    )


@dataclass(frozen=True)
class _Gate:
    """The waiting of the coordinator before its job begins: seconds, and words of `hardviews.launch.gate`."""

    seconds: int
    words: Sequence[str]

    @property
    def open(self) -> bool:
        """Whether there is nothing to wait for."""
        return not (self.seconds and self.words)

    def command(self, coordinator: Sequence[str]) -> list[str]:
        """Return the module and arguments of the coordinator, behind the gate if there is something to wait for."""
        if self.open:
            return [COORDINATOR, *coordinator]
        return [GATE, "--wait", str(self.seconds), *self.words, "--", *coordinator]


def _elsewhere(place: str) -> bool:
    """Return whether every pod sees a place, also the coordinator: a folder may be a volume of other pods."""
    return remote(place) or place.startswith("<")


def _elastic(
    name: str,
    role: str,
    nodes: str,
    command: Sequence[str],
    image: str | None,
    resource: Resource,
    env: Mapping[str, str],
    pod: PodOptions,
    mounts: Sequence[str] | None,
    gate: _Gate,
) -> AppDef:
    """Return a coordinator, and up to so many nodes of one role that run a `hardviews` command."""
    mistakes: list[str] = []
    try:
        size = Nodes.parse(nodes)
    except UserError as error:
        mistakes.append(str(error))
        size = Nodes(1, 1, max(1, resource.gpu))
    if resource.gpu > 0 and resource.gpu != size.processes:
        mistakes.append(
            f"-j {nodes} runs {size.processes} process{'es' * (size.processes != 1)} on a node that has {resource.gpu} "
            f"GPU{'s' * (resource.gpu != 1)}; each process works on one. Make them equal: --gpu {size.processes}, or "
            f"-j {size}x{resource.gpu}."
        )
    image = IMAGE.resolve(image)
    coordinator = Role(
        name="coordinator",
        image=image,
        entrypoint="python",
        args=["-m", *gate.command(["--host", "0.0.0.0", "--port", str(PORT)])],
        env=_ENVIRONMENT | _QUIET | ({} if gate.open else _store(env)),
        num_replicas=1,
        port_map={"rendezvous": PORT},
        resource=_coordinator_resource(size.most),
        metadata=pod.metadata(),
    )
    agent = ["-m", AGENT, "--job", macros.app_id, "--nodes", str(size)]
    agent += ["--processes", str(size.processes), "--cpus", str(resource.cpu), "--grace", str(pod.grace)]
    agent += ["--host-variable", macros.rank0_env, "--port", str(PORT), "--prepare", PREPARE, "--"]
    worker = Role(
        name=role,
        image=image,
        entrypoint="python",
        args=[*agent, COMMAND, *command],
        env=_ENVIRONMENT | _QUIET | dict(env),
        num_replicas=size.most,
        min_replicas=size.least,
        resource=resource,
        metadata=pod.metadata(),
        mounts=_mounts(mounts, mistakes),
    )
    app = AppDef(name=name, roles=[coordinator, worker])
    if mistakes:
        raise Mistaken(mistakes, app)
    return app


def packing(
    name: str,
    source: str,
    overrides: Sequence[str],
    image: str | None,
    data: str | None,
    resource: Resource,
    env: Mapping[str, str] | None,
    pod: PodOptions | None = None,
    mounts: Sequence[str] | None = None,
) -> AppDef:
    """Return a job of one process that packs the images at `source` into shards under `data`."""
    args = ["-m", COMMAND, "pack", "--source", source, "--out", DATA.resolve(data), *overrides]
    return _single(name, "packer", args, image, resource, dict(env or {}), pod, mounts)


def _store(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which an object store is reached."""
    return {name: value for name, value in env.items() if name.startswith("AWS_")}


def _given(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a job; an empty variable of ours counts as left out."""
    return {name: value for name, value in env.items() if value or name not in _ENVIRONMENT}


def _single(
    name: str,
    role: str,
    args: list[str],
    image: str | None,
    resource: Resource,
    env: dict[str, str],
    pod: PodOptions | None,
    mounts: Sequence[str] | None,
) -> AppDef:
    mistakes: list[str] = []
    only = Role(
        name=role,
        image=IMAGE.resolve(image),
        entrypoint="python",
        args=args,
        env=_ENVIRONMENT | _given(env),
        num_replicas=1,
        resource=resource,
        metadata=(pod or PodOptions()).metadata(),
        mounts=_mounts(mounts, mistakes),
    )
    app = AppDef(name=name, roles=[only])
    if mistakes:
        raise Mistaken(mistakes, app)
    return app


def _mounts(texts: Sequence[str] | None, mistakes: list[str]) -> list[object]:
    try:
        return list(parse_mounts(list(texts or ())))
    except (KeyError, ValueError) as error:
        lacking = isinstance(error, KeyError) and error.args[0] in ("src", "dst")
        why = f"{error.args[0]} is missing" if lacking else str(error.args[0])
        mistakes.append(
            f"--mount {','.join(texts or ())} cannot be read ({why}). Write type=volume,src=CLAIM,dst=FOLDER for a "
            "PersistentVolumeClaim, or type=bind,src=FOLDER,dst=FOLDER for a folder of the node."
        )
        return []
