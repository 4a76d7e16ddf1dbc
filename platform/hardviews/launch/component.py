"""The jobs as TorchX applications: roles, commands, resources. Pure but for the site's values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchx.specs import AppDef, Resource, Role, macros

from hardviews.errors import UserError
from hardviews.launch.site import DATA, IMAGE, OUTPUT, TRACKING

PORT = 29500  # of the coordinator, where it has a network address of its own
COORDINATOR = Resource(cpu=1, gpu=0, memMB=2048)


@dataclass(frozen=True)
class Nodes:
    """How many nodes a job may have and how many processes each runs."""

    least: int
    most: int
    processes: int

    @classmethod
    def parse(cls, text: str) -> Nodes:
        """Reads `MIN:MAXxPROCESSES`, `NODESxPROCESSES` or `PROCESSES`, as TorchX's own components do."""
        match = re.fullmatch(r"(?:(?:(\d+):)?(\d+)x)?(\d+)", text)
        if match:
            most = int(match[2] or 1)
            nodes = cls(int(match[1] or most), most, int(match[3]))
            if 1 <= nodes.least <= nodes.most and nodes.processes >= 1:
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

    Raises:
        UserError: `nodes` cannot be read.
    """
    size = Nodes.parse(nodes)
    image = IMAGE.resolve(image)
    common = {"LOGLEVEL": "WARNING", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    coordinator = Role(
        name="coordinator",
        image=image,
        entrypoint="python",
        args=["-m", "hardviews.launch.coordinator", "--host", "0.0.0.0", "--port", str(PORT)],
        env=dict(common),
        num_replicas=1,
        port_map={"rendezvous": PORT},
        resource=COORDINATOR,
    )
    agent = ["-m", "hardviews.launch.agent", "--job", macros.app_id, "--nodes", str(size)]
    agent += ["--processes", str(size.processes), "--cpus", str(resource.cpu), "--grace", str(grace)]
    agent += ["--host-variable", macros.rank0_env, "--port", str(PORT), "--"]
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
        env=common | {TRACKING.variable: TRACKING.resolve(tracking)} | dict(env or {}),
        num_replicas=size.most,
        min_replicas=size.least,
        resource=resource,
    )
    return AppDef(name=name, roles=[coordinator, trainer])


def evaluation(
    name: str,
    command: str,
    overrides: Sequence[str],
    image: str | None,
    data: str | None,
    output: str | None,
    tracking: str | None,
    resource: Resource,
    env: Mapping[str, str] | None,
) -> AppDef:
    """A job of one process that evaluates what a pretraining job has written under `output`."""
    args = [
        "-m",
        "hardviews.cli",
        command,
        "--run",
        OUTPUT.resolve(output),
        "--data",
        DATA.resolve(data),
        *overrides,
    ]
    env = {TRACKING.variable: TRACKING.resolve(tracking)} | dict(env or {})
    return AppDef(name=name, roles=[_single("evaluation", args, image, resource, env)])


def packing(
    name: str,
    source: str,
    overrides: Sequence[str],
    image: str | None,
    data: str | None,
    resource: Resource,
    env: Mapping[str, str] | None,
) -> AppDef:
    """A job of one process that packs the images at `source` into shards under `data`."""
    args = ["-m", "hardviews.cli", "pack", "--source", source, "--out", DATA.resolve(data), *overrides]
    return AppDef(name=name, roles=[_single("packer", args, image, resource, dict(env or {}))])


def _single(name: str, args: list[str], image: str | None, resource: Resource, env: dict[str, str]) -> Role:
    return Role(
        name=name,
        image=IMAGE.resolve(image),
        entrypoint="python",
        args=args,
        env=env,
        num_replicas=1,
        resource=resource,
    )


def command_lines(app: AppDef) -> dict[str, str]:
    """The command of every role, quoted for a shell; for messages and tests."""
    return {role.name: shlex.join([role.entrypoint, *role.args]) for role in app.roles}
