"""The rights that `torchx` uses on a cluster, each with its purpose: those of docs/rbac.yaml, which a test compares."""

from dataclasses import dataclass

_VOLCANO = "batch.volcano.sh"


@dataclass(frozen=True)
class Right:
    """One verb on one kind of objects.

    Attributes:
        group: of the API; empty for the core.
        resource: with its subresource, as `pods/log`.
        verb: of the API.
        purpose: what it is for, as it follows "for".
        everywhere: whether it is one of the whole cluster, and not of a namespace.
        needed: whether nothing works without it.
    """

    group: str
    resource: str
    verb: str
    purpose: str
    everywhere: bool = False
    needed: bool = False

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


_STATUS, _LOOK = "torchx status", "the checks before a submission"

RIGHTS = (
    *(Right(_VOLCANO, "jobs", verb, "every job", needed=True) for verb in ("create", "delete", "get", "list")),
    *(Right("", "pods", verb, "every job", needed=True) for verb in ("get", "list")),
    *(Right("", "services", verb, "names of pods that last") for verb in ("create", "get")),
    Right("", "pods/log", "get", "torchx log"),
    Right("bus.volcano.sh", "commands", "create", "torchx cancel, which deletes the job without it"),
    Right("", "events", "list", _STATUS),
    Right("scheduling.volcano.sh", "podgroups", "get", _STATUS),
    *(Right("", kind, "get", _LOOK) for kind in ("secrets", "serviceaccounts", "persistentvolumeclaims")),
    *(Right("", kind, "list", _LOOK) for kind in ("resourcequotas", "limitranges")),
    Right("", "pods", "create", "the API's check of a pod before a submission"),
    Right("", "namespaces", "get", _LOOK, everywhere=True),
    Right("scheduling.k8s.io", "priorityclasses", "get", _LOOK, everywhere=True),
    Right("storage.k8s.io", "storageclasses", "get", _LOOK, everywhere=True),
    *(
        Right("scheduling.volcano.sh", "queues", verb, f"{_STATUS}, {_LOOK}", everywhere=True)
        for verb in ("get", "list")
    ),
    *(Right("", "nodes", verb, _STATUS, everywhere=True) for verb in ("get", "list")),
)
