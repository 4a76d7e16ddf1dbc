"""The options of the scheduler `slurm`: settings of a job on Slurm that TorchX's roles do not have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, List  # noqa: UP035

from torchx.specs import runopts

from hardviews.launch.pod_mistakes import not_a_switch
from hardviews.launch.pod_options import switch
from hardviews.launch.slurm.time_limit import minutes

_LIST = List[str]  # noqa: UP006  # TorchX 0.7.0 compares with this spelling

MARGIN = 60
"""Seconds before the time limit, in addition to the grace: Slurm's signal may be a minute late or early."""

PASSED_ON = ("partition", "account", "qos", "time", "constraint", "reservation")
"""Options that every part of a job gets unchanged."""

ONCE = ("comment", "mail-user", "mail-type", "dependency")
"""Options of a job as a whole."""


@dataclass(frozen=True)
class SlurmOptions:
    """Settings of a job on Slurm; a setting that was not given is None or empty.

    Attributes:
        passed_on: options of `sbatch` by name, for every part of the job.
        once: options of `sbatch` by name, for the job as a whole.
        job_dir: folder for the logs.
        coordinator_partition: partition of the coordinator only.
        beside: whether the coordinator runs on the node of the first trainer, and not in a separate part of the job.
        start: number of nodes that the job begins with.
        join: id of a running job to which this job adds nodes.
        secrets: file with credentials.
        requeue: whether the job is queued again before its time limit, and after the loss of a node.
        sbatch: further arguments of `sbatch` for the nodes that train.
        srun: further arguments of `srun`.
    """

    passed_on: Mapping[str, str]
    once: Mapping[str, str]
    job_dir: str | None = None
    coordinator_partition: str | None = None
    beside: bool | str = False
    start: int | None = None
    join: str | None = None
    secrets: str | None = None
    requeue: bool | str = True
    sbatch: tuple[str, ...] = ()
    srun: tuple[str, ...] = ()

    @classmethod
    def read(cls, cfg: Mapping[str, Any]) -> "SlurmOptions":
        """Read the options of the scheduler."""
        said: dict[str, Any] = {
            entry.name: cfg[entry.name] for entry in fields(cls) if cfg.get(entry.name) not in (None, "", [])
        }
        for name in ("beside", "requeue"):
            if name in said:
                said[name] = switch(said[name])
        for name in ("sbatch", "srun"):
            said[name] = tuple(said.get(name, ()))
        passed_on = {name: str(cfg[name]) for name in PASSED_ON if cfg.get(name) not in (None, "")}
        once = {name: str(cfg[name]) for name in ONCE if cfg.get(name) not in (None, "")}
        return cls(**said | {"passed_on": passed_on, "once": once})

    def mistakes(self, least: int, most: int, grace: int) -> Iterator[str]:
        """Yield the mistakes that do not depend on the cluster.

        Args:
            least: least number of nodes of the job.
            most: largest number of nodes of the job.
            grace: seconds that the job's processes may take to save.
        """
        texts = {**self.passed_on, **self.once, "job_dir": self.job_dir or "", "secrets": self.secrets or ""}
        for name, text in [*texts.items(), *(("sbatch", t) for t in self.sbatch), *(("srun", t) for t in self.srun)]:
            if not text.isprintable():
                yield f"The option {name} holds a line break or another control character. Leave it out."
        for name in ("beside", "requeue"):
            if isinstance(said := getattr(self, name), str):
                yield not_a_switch(name, said)
        for name in ("sbatch", "srun"):
            for word in getattr(self, name):
                if not word.startswith("-"):
                    yield f"{name} holds {word}, which is not an option of {name}. Write OPTION=VALUE with its dashes."
        if self.start is not None and not least <= self.start <= most:
            yield f"start={self.start} is not between {least} and {most}, the least and the most nodes of -j."
        if self.join is not None and not self.join.isdecimal():
            yield f"join={self.join} is not a job. Give the number of a running job from torchx list -s slurm."
        if "time" in self.passed_on:
            given = self.passed_on["time"]
            limit = minutes(given)
            if limit is None:
                yield (
                    f"time={given} is not a time limit. Write minutes, HOURS:MINUTES:SECONDS or "
                    "DAYS-HOURS:MINUTES:SECONDS."
                )
            elif 0 < limit * 60 <= grace + MARGIN:
                yield (
                    f"time={given} leaves no time to train: the job begins to save {grace + MARGIN} s before the limit "
                    f"(--grace {grace}, and {MARGIN} s because Slurm counts in minutes). Give more time."
                )


def add_options(opts: runopts) -> runopts:
    """Add our options to the options of TorchX's scheduler."""
    opts.add("account", str, "account that the job is charged to")
    opts.add("qos", str, "quality of service of the job")
    opts.add("reservation", str, "reservation that the job runs in")
    opts.add("dependency", str, "jobs to wait for, such as afterok:12")
    opts.add("coordinator_partition", str, "partition of the coordinator only, for example one without GPUs")
    opts.add("beside", str, "true or false: the coordinator runs on the first trainer's node (default: false)")
    opts.add("start", int, "nodes that the job begins with (default: the most of -j)")
    opts.add("join", str, "number of a running job to which this job adds nodes")
    opts.add("secrets", str, "file with credentials as NAME=VALUE lines, which only its owner may read")
    opts.add(
        "requeue", str, "true or false: queue the job again before its time limit and after a loss (default: true)"
    )
    opts.add("sbatch", _LIST, "further arguments of sbatch, in .torchxconfig")
    opts.add("srun", _LIST, "further arguments of srun, in .torchxconfig")
    return opts
