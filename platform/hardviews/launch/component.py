"""The jobs as TorchX applications: roles, commands, resources. Pure but for the site's values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torchx.specs import AppDef, Resource, Role, macros, parse_mounts

from hardviews.errors import UserError
from hardviews.launch import PREPARE
from hardviews.launch.pod_options import PodOptions
from hardviews.launch.site import DATA, IMAGE, OUTPUT, TRACKING

PORT = 29500  # of the coordinator, where it has a network address of its own
COORDINATOR = "hardviews.elastic.coordinator"
AGENT = "hardviews.elastic.agent"

_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}  # a file random.py in the folder where a process starts is not Python's own


def _coordinator_resource(nodes: int) -> Resource:
    """What the coordinator needs, so little that it finds room again after a loss of its node.

    Measured: 10 nodes took 0.013 cores and 24 MB, 50 took 0.1 cores and 28 MB, 200 took 0.9 cores and 55 MB. It may
    use more while nobody else does.
    """
    return Resource(cpu=round(max(0.05, nodes * 0.0025), 3), gpu=0, memMB=128)


class Mistaken(UserError):
    """An argument of a component cannot be used; `app` is the job without it, in which more may be found."""

    def __init__(self, mistakes: Sequence[str], app: AppDef) -> None:
        super().__init__(" ".join(mistakes))
        self.mistakes = list(mistakes)
        self.app = app


def module(role: Role) -> str | None:
    """The module of this package that a role's command runs; None for others' roles."""
    ours = role.entrypoint == "python" and len(role.args) > 1 and role.args[1].startswith("hardviews.")
    return role.args[1] if ours else None


@dataclass(frozen=True)
class Nodes:
    """How many nodes a job may have and how many processes each runs."""

    least: int
    most: int
    processes: int

    @classmethod
    def parse(cls, text: str) -> "Nodes":
        """Reads `MIN:MAXxPROCESSES`, `NODESxPROCESSES` or `PROCESSES`, as TorchX's own components do, or `MIN:MAX`."""
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
    resource: Resource,
    env: Mapping[str, str] | None,
    grace: int,
    pod: PodOptions | None = None,
    mounts: Sequence[str] | None = None,
) -> AppDef:
    """The elastic pretraining job: a coordinator and up to `nodes.most` trainers.

    Args:
        name: of the job.
        nodes: see `Nodes.parse`.
        recipe: name of a recipe.
        overrides: further arguments of `hardviews pretrain`.
        image: see `site`, as are data, output and tracking.
        data: URL.
        output: URL.
        tracking: MLflow's.
        resource: of one trainer node.
        env: further variables of the trainers.
        grace: seconds between SIGTERM and SIGKILL of a training process.
        pod: what the pods need on a cluster.
        mounts: of the trainers, as TorchX's components take them.

    Raises:
        Mistaken: `nodes` or `mounts` cannot be read, or processes and GPUs do not fit.
    """
    mistakes: list[str] = []
    try:
        size = Nodes.parse(nodes)
    except UserError as error:
        mistakes.append(str(error))
        size = Nodes(1, 1, max(1, resource.gpu))
    if resource.gpu > 0 and resource.gpu != size.processes:
        mistakes.append(
            f"-j {nodes} runs {size.processes} process{'es' * (size.processes != 1)} on a node that has {resource.gpu} "
            f"GPU{'s' * (resource.gpu != 1)}; each process trains on one. Make them equal: --gpu {size.processes}, or "
            f"-j {size}x{resource.gpu}."
        )
    pod = replace(pod or PodOptions(), grace=grace)
    image = IMAGE.resolve(image)
    common = _ENVIRONMENT | {"LOGLEVEL": "WARNING", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    coordinator = Role(
        name="coordinator",
        image=image,
        entrypoint="python",
        args=["-m", COORDINATOR, "--host", "0.0.0.0", "--port", str(PORT)],
        env=dict(common),
        num_replicas=1,
        port_map={"rendezvous": PORT},
        resource=_coordinator_resource(size.most),
        metadata=pod.metadata(),
    )
    agent = ["-m", AGENT, "--job", macros.app_id, "--nodes", str(size)]
    agent += ["--processes", str(size.processes), "--cpus", str(resource.cpu), "--grace", str(grace)]
    agent += ["--host-variable", macros.rank0_env, "--port", str(PORT), "--prepare", PREPARE, "--"]
    command = [
        "hardviews.cli",
        "pretrain",
        recipe,
        "--data",
        DATA.resolve(data),
        "--output",
        OUTPUT.resolve(output),
    ]
    trainer = Role(
        name="trainer",
        image=image,
        entrypoint="python",
        args=[*agent, *command, *overrides],
        env=common | {TRACKING.variable: TRACKING.resolve(tracking)} | _given(env or {}),
        num_replicas=size.most,
        min_replicas=size.least,
        resource=resource,
        metadata=pod.metadata(),
        mounts=_mounts(mounts, mistakes),
    )
    app = AppDef(name=name, roles=[coordinator, trainer])
    if mistakes:
        raise Mistaken(mistakes, app)
    return app


def evaluation(
    name: str,
    command: str,
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
    """A job of one process that evaluates what a pretraining job has written under `output`."""
    args = ["-m", "hardviews.cli", command]
    if not any(word.partition("=")[0] == "--encoder" for word in overrides):
        args += ["--run", OUTPUT.resolve(output)]
    args += ["--data", DATA.resolve(data), "--wait", str(wait), *overrides]
    env = {TRACKING.variable: TRACKING.resolve(tracking)} | dict(env or {})
    return _single(name, "evaluation", args, image, resource, env, pod, mounts)


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
    """A job of one process that packs the images at `source` into shards under `data`."""
    args = ["-m", "hardviews.cli", "pack", "--source", source, "--out", DATA.resolve(data), *overrides]
    return _single(name, "packer", args, image, resource, dict(env or {}), pod, mounts)


def _given(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a job's own; one of ours that is set and empty counts as left out."""
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
