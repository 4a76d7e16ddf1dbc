"""What the pods of a job need beyond TorchX's roles, said by the site or by the job."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torchx.specs import Role

from hardviews.errors import UserError
from hardviews.launch.forms import LONGEST, bad_key, bad_object, bad_value

METADATA = "kubernetes"
"""Key of a role's metadata under which a job says its part."""

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_LONGEST_TTL = 2**31 - 1  # seconds; the API keeps 32 bits


@dataclass(frozen=True)
class PodOptions:
    """Settings of pods; what is None or empty was not said.

    The site says them as run options of the scheduler (`-cfg`, or `[kubernetes]` in .torchxconfig), the job as
    arguments of its component.

    Attributes:
        secrets: names of Secrets whose keys become environment variables of the training processes.
        tolerations: taints that the pods bear, as kubectl writes them: KEY, KEY:EFFECT or KEY=VALUE:EFFECT.
        node_selector: labels that a node must have.
        labels: further labels of the job and its pods.
        image_pull_secrets: names of Secrets with the registry's credentials.
        image_pull_policy: Always, IfNotPresent or Never.
        service_account: whose identity the pods have.
        priority_class: of the job's pods.
        run_as_user: numeric id, of the group and of mounted files too.
        ttl: seconds until a finished job is removed.
        grace: seconds that a process may take to save and leave.
        shm: shared memory of a pod in MB, part of its memory.
        scratch: local disk of a pod in MB.
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

    @classmethod
    def of_site(cls, cfg: Mapping[str, Any]) -> "PodOptions":
        """Reads the scheduler's run options."""
        said: dict[str, Any] = {
            entry.name: cfg.get(entry.name) for entry in fields(cls) if cfg.get(entry.name) is not None
        }
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        return cls(**plain)

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
    ) -> "PodOptions":
        """Takes the arguments that all components share.

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
        )

    @classmethod
    def of_role(cls, role: Role) -> "PodOptions":
        """Reads what a job has said about a role."""
        said: Mapping[str, Any] = role.metadata.get(METADATA) or {}
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
        return cls(**plain)

    def metadata(self) -> dict[str, Any]:
        """Writes what was said as a role's metadata, plain enough for any scheduler to copy and to print."""
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
        """Adds the job's settings to the site's: lists grow, single values win."""
        merged: dict[str, Any] = {}
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(site, entry.name)
            if isinstance(mine, tuple):
                merged[entry.name] = tuple(dict.fromkeys((*theirs, *mine)))
            elif isinstance(mine, Mapping):
                merged[entry.name] = {**theirs, **mine}
            else:
                merged[entry.name] = theirs if mine is None else mine
        return PodOptions(**merged)

    def mistakes(self) -> list[str]:
        """Says what of these settings no cluster could follow."""
        found = []
        for text in self.tolerations:
            if toleration(text) is None:
                found.append(
                    f"The toleration {text!r} cannot be read. Write KEY, KEY:EFFECT or KEY=VALUE:EFFECT, with one of "
                    f"the effects {', '.join(_EFFECTS)}, for example nvidia.com/gpu:NoSchedule. Key and value have "
                    f"the form of a label, at most {LONGEST} characters each."
                )
        for what, pairs in (("node selector", self.node_selector), ("labels", self.labels)):
            for key, value in pairs.items():
                why = bad_key(key) or bad_value(value)
                if why is not None:
                    found.append(f"The {what} {key}={value} is not a Kubernetes label: {why}. Write KEY=VALUE.")
        for kind, names in (
            ("secret", self.secrets),
            ("image pull secret", self.image_pull_secrets),
            ("service account", (self.service_account,) if self.service_account else ()),
            ("priority class", (self.priority_class,) if self.priority_class else ()),
        ):
            for name in names:
                why = bad_object(name)
                if why is not None:
                    found.append(
                        f"The {kind} {name!r} is not the name of a Kubernetes object: {why}. Give the name of one that "
                        "exists, not its content."
                    )
        if self.image_pull_policy not in (None, "Always", "IfNotPresent", "Never"):
            found.append(
                f"The image pull policy {self.image_pull_policy!r} is unknown. Write Always, IfNotPresent or Never."
            )
        if self.run_as_user is not None and self.run_as_user <= 0:
            found.append(f"run_as_user is {self.run_as_user}: pods do not run as root. Give an id above 0.")
        for what, size in (("ttl", self.ttl), ("grace", self.grace), ("shm", self.shm), ("scratch", self.scratch)):
            if size is not None and size < 0:
                found.append(f"{what} is {size}: it cannot be negative.")
        for what, size in (("shm", self.shm), ("scratch", self.scratch)):
            if size == 0:
                found.append(f"{what} is 0 MB, with which no pod can run. Give more, or leave it out.")
        if self.ttl is not None and self.ttl > _LONGEST_TTL:
            found.append(f"ttl is {self.ttl} seconds: Kubernetes takes at most {_LONGEST_TTL}. Leave it out for never.")
        return found


def number(name: str, given: int | str | None) -> int | None:
    """Returns the number that an argument of a component is.

    Raises:
        UserError: it is not a whole number.
    """
    if given is None:
        return None
    try:
        return int(given)
    except ValueError:
        raise UserError(f"--{name} {given} cannot be read: give a whole number.") from None


def toleration(text: str) -> dict[str, str] | None:
    """Reads a toleration as kubectl writes a taint; None where it cannot be read."""
    match = re.fullmatch(r"([^=:]+)(?:=([^=:]*))?(?::([A-Za-z]+))?", text)
    if match is None or bad_key(match[1]) or bad_value(match[2] or ""):
        return None
    if match[3] is not None and match[3] not in _EFFECTS:
        return None
    read = {"key": match[1], "operator": "Exists" if match[2] is None else "Equal"}
    if match[2] is not None:
        read["value"] = match[2]
    return read | ({"effect": match[3]} if match[3] else {})
