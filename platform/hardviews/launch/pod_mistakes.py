"""The mistakes in settings of pods that no cluster could accept, in words."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hardviews.errors import UserError
from hardviews.launch import affinity
from hardviews.launch.forms import LONGEST, bad_key, bad_object, bad_resource, bad_value
from hardviews.launch.toleration import EFFECTS, toleration

if TYPE_CHECKING:
    from hardviews.launch.pod_options import PodOptions

CAPABILITIES = ("IPC_LOCK",)
"""Linux capabilities that pods may add: to pin memory, as RDMA does."""

_LONGEST_TTL = 2**31 - 1  # seconds; the API keeps 32 bits
_LARGEST_ANNOTATIONS = 1 << 18  # bytes of all keys and values; the API's limit
_MOST_DEVICES = 2**31 - 1


def mistakes(options: "PodOptions") -> list[str]:
    """List the mistakes, each with its remedy."""
    return [
        *_tolerations(options),
        *_labels(options),
        *_objects(options),
        *_values(options),
        *_sizes(options),
        *_placement(options),
        *_hardware(options),
    ]


def not_a_switch(name: str, text: str) -> str:
    """Return the message that an option is neither true nor false."""
    return f"{name} is {text!r}, which cannot be read: write true or false."


def _tolerations(options: "PodOptions") -> Iterator[str]:
    for text in options.tolerations:
        if toleration(text) is None:
            yield (
                f"The toleration {text!r} cannot be read. Write KEY, KEY:EFFECT or KEY=VALUE:EFFECT, with one of "
                f"the effects {', '.join(EFFECTS)}, for example nvidia.com/gpu:NoSchedule. Key and value have "
                f"the form of a label, at most {LONGEST} characters each."
            )


def _labels(options: "PodOptions") -> Iterator[str]:
    for what, pairs in (("node selector", options.node_selector), ("labels", options.labels)):
        for key, value in pairs.items():
            why = bad_key(key) or bad_value(value)
            if why is not None:
                yield f"The {what} {key}={value} is not a Kubernetes label: {why}. Write KEY=VALUE."
    for key, value in options.annotations.items():
        if why := bad_key(key.lower()):
            yield f"The annotation {key}={value} has no key that Kubernetes takes: {why}. Write KEY:VALUE."
    size = sum(len(text.encode()) for pair in options.annotations.items() for text in pair)
    if size > _LARGEST_ANNOTATIONS:
        yield f"The annotations have {size} bytes, and Kubernetes takes {_LARGEST_ANNOTATIONS}. Give fewer."


def _objects(options: "PodOptions") -> Iterator[str]:
    for kind, names in (
        ("secret", options.secrets),
        ("image pull secret", options.image_pull_secrets),
        ("service account", (options.service_account,) if options.service_account else ()),
        ("priority class", (options.priority_class,) if options.priority_class else ()),
        ("runtime class", (options.runtime_class,) if options.runtime_class else ()),
    ):
        for name in names:
            why = bad_object(name)
            if why is not None:
                yield (
                    f"The {kind} {name!r} is not the name of a Kubernetes object: {why}. Give the name of one that "
                    "exists, not its content."
                )


def _values(options: "PodOptions") -> Iterator[str]:
    if options.image_pull_policy not in (None, "Always", "IfNotPresent", "Never"):
        yield f"The image pull policy {options.image_pull_policy!r} is unknown. Write Always, IfNotPresent or Never."
    if isinstance(options.host_network, str):
        yield not_a_switch("host_network", options.host_network)
    if options.run_as_user is not None and options.run_as_user <= 0:
        yield f"run_as_user is {options.run_as_user}: pods do not run as root. Give an id above 0."


def _sizes(options: "PodOptions") -> Iterator[str]:
    sizes = (("ttl", options.ttl), ("grace", options.grace), ("shm", options.shm), ("scratch", options.scratch))
    for what, size in sizes:
        if size is not None and size < 0:
            yield f"{what} is {size}: it cannot be negative."
    for what, size in sizes[2:]:
        if size == 0:
            yield f"{what} is 0 MB, with which no pod can run. Give more, or leave it out."
    if options.ttl is not None and options.ttl > _LONGEST_TTL:
        yield f"ttl is {options.ttl} seconds: Kubernetes takes at most {_LONGEST_TTL}. Leave it out for never."


def _placement(options: "PodOptions") -> Iterator[str]:
    for key in options.spread:
        if why := bad_key(key):
            yield (
                f"The spread over {key!r} does not name a label of nodes: {why}. Give the key of one, for example "
                "kubernetes.io/hostname or topology.kubernetes.io/zone."
            )
    if options.affinity:
        try:
            affinity.read(options.affinity)
        except UserError as error:
            yield str(error)


def _hardware(options: "PodOptions") -> Iterator[str]:
    gpu = options.gpu_resource
    if gpu is not None and (why := bad_resource(gpu)):
        yield (
            f"The GPU resource {gpu!r} is not a name under which nodes offer devices: {why}. Give the name that "
            "`kubectl describe nodes` shows, for example nvidia.com/gpu or amd.com/gpu."
        )
    for name, count in options.devices.items():
        if why := bad_resource(name):
            yield (
                f"The device {name!r} is not a name under which nodes offer devices: {why}. Give the name that "
                "`kubectl describe nodes` shows, for example rdma/ib."
            )
        elif name == options.gpus:
            yield f"The device {name} is the GPU resource, of which --gpu says how many. Leave it out of the devices."
        if re.fullmatch(r"[0-9]{1,10}", str(count)) is None or not 1 <= int(count) <= _MOST_DEVICES:
            yield f"The device {name} is asked for {str(count)!r} times. Give a whole number of at least 1."
    for capability in options.capabilities:
        if capability not in CAPABILITIES:
            yield (
                f"The capability {capability!r} is not one that pods may add: only {', '.join(CAPABILITIES)} is, with "
                "which RDMA pins memory. Leave the others out."
            )
