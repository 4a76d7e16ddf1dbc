"""The settings of a job's pods beyond TorchX's roles, given by the site or by the job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torchx.specs import Role

from hardviews.errors import UserError
from hardviews.launch import pod_mistakes

METADATA = "kubernetes"
"""Key of a role's metadata that holds the settings of the job."""

GPU = "nvidia.com/gpu"
"""Name of the resource that `--gpu` counts, unless the site gives another one."""


@dataclass(frozen=True)
class PodOptions:
    """Settings of pods; a setting that is None or empty was not given.

    The site gives them as run options of the scheduler (`-cfg`, or `[kubernetes]` in .torchxconfig), the job as
    arguments of its component.

    Attributes:
        secrets: names of Secrets whose keys become environment variables of the training processes.
        tolerations: taints that the pods tolerate, in the form of kubectl: KEY, KEY:EFFECT or KEY=VALUE:EFFECT.
        node_selector: labels that a node must have.
        labels: further labels of the job and its pods.
        annotations: further annotations of the pods.
        image_pull_secrets: names of Secrets with the registry's credentials.
        image_pull_policy: Always, IfNotPresent or Never.
        service_account: service account whose identity the pods have.
        priority_class: PriorityClass of the job's pods.
        run_as_user: numeric id of the user, of the group and of mounted files.
        ttl: seconds until a finished job is removed.
        grace: seconds that a process may take to save and leave.
        shm: shared memory of a pod in MB, part of its memory.
        scratch: local disk of a pod in MB.
        spread: labels of nodes, by key, over whose values the working pods are spread as evenly as there is room.
        affinity: path of a YAML file with the affinity of the working pods, or the affinity itself.
        devices: numbers of other devices of a working pod, by the name under which nodes offer them.
        capabilities: Linux capabilities that the working pods add.
        gpu_resource: name under which nodes offer GPUs.
        runtime_class: name of the RuntimeClass of the pods.
        host_network: whether pods use the network of their node; a text is a mistake.
    """

    secrets: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str | None = None
    service_account: str | None = None
    priority_class: str | None = None
    run_as_user: int | None = None
    ttl: int | None = None
    grace: int | None = None
    shm: int | None = None
    scratch: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    spread: tuple[str, ...] = ()
    affinity: str | Mapping[str, Any] | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    gpu_resource: str | None = None
    runtime_class: str | None = None
    host_network: bool | str | None = None

    @property
    def gpus(self) -> str:
        """Name under which nodes offer GPUs."""
        return self.gpu_resource or GPU

    @classmethod
    def of_site(cls, cfg: Mapping[str, Any]) -> "PodOptions":
        """Read the scheduler's run options."""
        said: dict[str, Any] = {
            entry.name: cfg.get(entry.name) for entry in fields(cls) if cfg.get(entry.name) is not None
        }
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        return cls(**plain | {"host_network": switch(cfg.get("host_network"))})

    @classmethod
    def of_job(
        cls,
        secrets: Sequence[str] | None,
        tolerations: Sequence[str] | None,
        node_selector: Mapping[str, str] | None,
        priority_class: str | None,
        shm: int | str | None,
        scratch: int | str | None,
        ttl: int | str | None,
        spread: Sequence[str] | None = None,
        affinity: str | None = None,
        devices: Mapping[str, str] | None = None,
        capabilities: Sequence[str] | None = None,
    ) -> "PodOptions":
        """Take the arguments that components share.

        TorchX 0.7.0 gives a component the text of an argument whose parameter is an `Optional[int]`.

        Raises:
            UserError: a number cannot be read.
        """
        return cls(
            secrets=tuple(secrets or ()),
            tolerations=tuple(tolerations or ()),
            node_selector=dict(node_selector or {}),
            priority_class=priority_class or None,
            shm=number("shm", shm),
            scratch=number("scratch", scratch),
            ttl=number("ttl", ttl),
            spread=tuple(spread or ()),
            affinity=affinity or None,
            devices=dict(devices or {}),
            capabilities=tuple(capabilities or ()),
        )

    @classmethod
    def of_role(cls, role: Role) -> "PodOptions":
        """Read the job's settings of a role."""
        said: Mapping[str, Any] = role.metadata.get(METADATA) or {}
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        return cls(**plain)

    def metadata(self) -> dict[str, Any]:
        """Return the settings as a role's metadata, simple enough for any scheduler to copy and to print."""
        plain: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None or value == () or value == {}:
                continue
            plain[entry.name] = (
                list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            )
        return {METADATA: plain} if plain else {}

    def over(self, site: "PodOptions") -> "PodOptions":
        """Add the job's settings to the site's: lists grow, single values win."""
        merged: dict[str, Any] = {}
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(site, entry.name)
            if isinstance(mine, tuple):
                merged[entry.name] = tuple(dict.fromkeys((*theirs, *mine)))
            elif isinstance(mine, Mapping) and entry.name != "affinity":
                merged[entry.name] = {**theirs, **mine}
            else:
                merged[entry.name] = theirs if mine is None else mine
        return PodOptions(**merged)

    def mistakes(self) -> list[str]:
        """Return the mistakes that no cluster could accept, as sentences."""
        return pod_mistakes.mistakes(self)


def switch(given: bool | str | None) -> bool | str | None:
    """Return true or false if an option is the text of one; else the option itself."""
    return {"true": True, "false": False}.get(given.strip().lower(), given) if isinstance(given, str) else given


def number(name: str, given: int | str | None) -> int | None:
    """Return an argument of a component as a number.

    Raises:
        UserError: it is not a whole number.
    """
    if given is None:
        return None
    try:
        return int(given)
    except ValueError:
        raise UserError(f"--{name} {given} cannot be read: give a whole number.") from None
