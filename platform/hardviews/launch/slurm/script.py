"""The script of a job on Slurm, made from the roles of a TorchX application."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchx.specs import AppDef, Role, macros

from hardviews.launch.component import AGENT, module
from hardviews.launch.site import TRACKING
from hardviews.launch.slurm.options import MARGIN, SlurmOptions

_TASK = "hardviews.launch.slurm.task"
_BATCH = "hardviews.launch.slurm.batch"
_COORDINATOR_MB = 256  # memory of the coordinator and of the script that starts it
_WIDTH = 100  # characters in a line
_STEP_MB = 16  # memory of each trainer's `srun`, which runs on the coordinator's node
_SET_INSIDE = ("--job", "--host-variable", "--port", "--nodes")  # arguments of the agent that the job's script sets


@dataclass(frozen=True)
class Elastic:
    """The role of an elastic job whose nodes come and go."""

    role: Role

    @property
    def least(self) -> int:
        return self.role.min_replicas or 1

    @property
    def most(self) -> int:
        return int(self.role.num_replicas)

    @property
    def grace(self) -> int:
        return int(_value(self.role.args, "--grace"))


def elastic(app: AppDef) -> Elastic | None:
    """Return the elastic part of an application; None for a job with one process, or a job of others."""
    role = app.roles[-1]
    return Elastic(role) if module(role) == AGENT else None


def ours(app: AppDef) -> bool:
    """Return whether all of an application's roles run commands of this project."""
    return all(module(role) is not None for role in app.roles)


def script(app: AppDef, options: SlurmOptions, folder: str, memory: bool) -> str:
    """Return the script that `sbatch` takes.

    Args:
        app: a job of ours.
        options: options of the scheduler.
        folder: folder for the logs.
        memory: whether to request memory.
    """
    parts = list(_parts(app, options, folder, memory))
    heads = "\n#SBATCH hetjob\n".join("\n".join(f"#SBATCH {line}" for line in part) for part in parts)
    names = "\n".join(f"export {name}={_quoted(value)}" for name, value in sorted(_variables(app).items()))
    command = _filled(_quoted(word) for word in _command(app, options, folder, het=len(parts) > 1))
    return f"""#!/bin/bash
{heads}

# A signal before the job can handle it must not end it.
trap '' USR1 USR2
{names}
exec {command}
"""


def _parts(app: AppDef, options: SlurmOptions, folder: str, memory: bool) -> Iterator[list[str]]:
    """Yield the options of each part of the job."""
    work = elastic(app)
    role = app.roles[-1]
    own = _resources(role, memory) + list(options.sbatch)
    first = [f"--{name}={value}" for name, value in options.once.items()]
    first += [f"--output={folder}/slurm-%j-{app.roles[0].name}-0.log", "--open-mode=append", f"--chdir={folder}"]
    common = {"requeue" if options.requeue else "no-requeue": None}
    if work is None:
        yield _written(app.name, role.name, options.passed_on, common, [*first, "--nodes=1", "--ntasks=1", *own])
        return
    first.append(f"--signal=B:USR1@{work.grace + MARGIN}")
    nodes = [f"--nodes={options.start or work.most}", "--ntasks-per-node=1"]
    if options.join or options.beside:
        # If a node is lost, the other nodes keep their job.
        yield _written(app.name, role.name, options.passed_on, common, [*first, *nodes, "--no-kill", *own])
        return
    small = {name: value for name, value in options.passed_on.items() if name != "constraint"}
    if options.coordinator_partition:
        small["partition"] = options.coordinator_partition
    room = [f"--mem={_COORDINATOR_MB + _STEP_MB * work.most}"] if memory else []
    head = [*first, "--nodes=1", "--ntasks=1", "--cpus-per-task=1", *room]
    yield _written(app.name, app.roles[0].name, small, common, head)
    yield _written(app.name, role.name, options.passed_on, common, [*nodes, *own])


def _written(
    job: str, role: str, passed_on: Mapping[str, str], common: Mapping[str, str | None], others: Sequence[str]
) -> list[str]:
    found = [f"--job-name={job}-{role}", *(f"--{name}={value}" for name, value in passed_on.items())]
    found += [f"--{name}" for name in common]
    return [shlex.quote(line) for line in [*found, *others]]


def _resources(role: Role, memory: bool) -> list[str]:
    resource = role.resource
    found = [f"--cpus-per-task={max(1, int(resource.cpu))}"]
    found += [f"--mem={resource.memMB}"] if memory and resource.memMB > 0 else []
    found += [f"--gpus-per-node={resource.gpu}"] if resource.gpu > 0 else []
    return found


def _variables(app: AppDef) -> dict[str, str]:
    """Return the environment of the job's processes. Without a server, runs are tracked in the job's folder."""
    found = {name: value for role in app.roles for name, value in role.env.items()}
    if found.get(TRACKING.variable) == TRACKING.placeholder:
        del found[TRACKING.variable]
    return found


def _command(app: AppDef, options: SlurmOptions, folder: str, het: bool) -> list[str]:
    start = [sys.executable, "-P", "-m"]
    role = app.roles[-1]
    work = elastic(app)
    secrets = ["--secrets", options.secrets] if options.secrets else []
    if work is None:
        return [*start, _TASK, "--folder", folder, *secrets, "--", *role.args[1:]]
    words = [*start, _BATCH, "--role", role.name, "--nodes", f"{work.least}:{work.most}"]
    words += ["--group", "1"] if het else []
    words += ["--cpus", str(max(1, int(role.resource.cpu))), "--gpus", str(max(0, role.resource.gpu))]
    words += ["--grace", str(work.grace), *(["--requeue"] if options.requeue else []), *secrets]
    words += ["--join", options.join] if options.join else []
    words += [f"--srun={given}" for given in options.srun]
    return [*words, "--", *_agent(role)]


def _agent(role: Role) -> list[str]:
    """Return the arguments of a role's agent, except the arguments that the job's script sets."""
    end = role.args.index("--")
    words = list(role.args[2:end])
    for name in _SET_INSIDE:
        place = words.index(name)
        del words[place : place + 2]
    return [*words, *role.args[end:]]


def _quoted(word: str) -> str:
    """Quote a word for the shell; replace TorchX's name for the job's id by Slurm's name."""
    return '"$SLURM_JOB_ID"'.join(shlex.quote(part) if part else "" for part in word.split(macros.app_id)) or "''"


def _filled(words: Iterable[str]) -> str:
    """Return the words of a command, in lines of limited length."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return " \\\n  ".join(lines)


def _value(words: Sequence[str], name: str) -> str:
    return words[words.index(name) + 1]
