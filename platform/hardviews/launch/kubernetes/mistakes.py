"""The mistakes in a job that are found without a cluster."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from torchx.specs import AppDef, BindMount, DeviceMount, Role, VolumeMount

from hardviews.errors import did_you_mean
from hardviews.launch.component import HEADS, module
from hardviews.launch.credentials import confidential, has_password
from hardviews.launch.forms import LONGEST, bad_digest, bad_object
from hardviews.launch.kubernetes.submitter import TORCHX, Submitter
from hardviews.launch.pod_options import PodOptions
from hardviews.launch.site import TRACKING

_PLACES = ("--data", "--output", "--run", "--out", "--source")
_MADE = {"digits", "photographs"}  # sources that are not folders: hardviews.data.pack_command
_HERE = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


def validate(app: AppDef, options: PodOptions, submitter: Submitter = TORCHX) -> list[str]:
    """List the mistakes in a job that are found without a cluster, each with its remedy.

    Args:
        app: the job.
        options: options of the site; the roles' options are added to them.
        submitter: tool that submits the job.
    """
    found: list[str] = []
    for role in app.roles:
        merged = PodOptions.of_role(role).over(options)
        found += merged.mistakes()
        found += _name(role)
        found += _amounts(role, merged)
        found += _variables(role)
        found += _confidential(role)
        found += _mounts(role)
        if not role.image.strip():
            found.append("The image is empty. Give --image, or HARDVIEWS_IMAGE in the environment.")
        elif why := bad_digest(role.image):
            found.append(
                f"The image {role.image} cannot be pulled: {why}. Copy the digest that the registry prints, as in "
                "NAME@sha256:DIGEST, or give a tag."
            )
        if module(role) is not None:
            found += _places(role)
            found += _servers(role)
    found += _length(app, submitter.digits)
    return list(dict.fromkeys(found))


def _name(role: Role) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9_]+", role.name.lower()):
        better = re.sub(r"[^a-z0-9]+", "_", role.name.lower()).strip("_") or "main"
        yield (
            f"The role is named {role.name!r}, but only letters, digits and '_' can be found again in the environment "
            f"variable that holds its host. Call it {better!r}; for dist.ddp, rename the script."
        )


def _amounts(role: Role, options: PodOptions) -> Iterator[str]:
    resource = role.resource
    if module(role) is None and resource.cpu < 0 and resource.memMB < 0:
        return  # a component without resources
    if resource.cpu <= 0:
        yield f"The role {role.name} asks for {resource.cpu} CPU. Give at least one core: --cpu 1."
    if resource.memMB <= 0:
        yield f"The role {role.name} asks for {resource.memMB} MB of memory. Give --memMB, for example 4096."
    elif options.shm is not None and options.shm > resource.memMB and module(role) not in HEADS:
        yield (
            f"--shm {options.shm} MB of shared memory are part of the pod's memory, which is {resource.memMB} MB. Give "
            "less, or more --memMB."
        )
    if resource.gpu < 0 and module(role) is not None:
        yield f"The role {role.name} asks for {resource.gpu} GPUs. Give 0 or more."


def _variables(role: Role) -> Iterator[str]:
    for name in role.env:
        if not re.fullmatch(r"[A-Za-z_.-][A-Za-z0-9_.-]*", name):
            yield (
                f"{name!r} is not the name of an environment variable: those have letters, digits and '_', and no "
                "digit first. Write --env NAME=VALUE,NAME=VALUE."
            )


def _mounts(role: Role) -> Iterator[str]:
    if any(isinstance(mount, DeviceMount) for mount in role.mounts):
        yield (
            f"The role {role.name} mounts a device of the node, for which its pods would have to be privileged. Ask "
            "for devices by their resource names instead, such as --gpu."
        )
        return
    folders = [mount.dst_path for mount in role.mounts]
    for mount in role.mounts:
        if not mount.dst_path.startswith("/") or not mount.dst_path.strip("/") or ":" in mount.dst_path:
            yield f"--mount has dst={mount.dst_path}: give the full path of a folder in the pod, for example dst=/data."
        if isinstance(mount, VolumeMount) and (why := bad_object(mount.src)):
            yield f"--mount has src={mount.src}, which is not the name of a volume claim: {why}."
        if isinstance(mount, BindMount) and not mount.src_path.startswith("/"):
            yield f"--mount has src={mount.src_path}: give the full path of a folder of the node."
    for folder in dict.fromkeys(folder for folder in folders if folders.count(folder) > 1):
        yield f"--mount puts {folders.count(folder)} volumes at {folder}. Give each a folder of its own."


def _confidential(role: Role) -> Iterator[str]:
    for name, value in role.env.items():
        if value and confidential(name):
            yield (
                f"The variable {name} looks like a credential, and what is given by --env can be read in the job's "
                "description by everyone who may list jobs. Put it into a Secret, kubectl create secret generic NAME "
                f"--from-literal={name}=..., and give its name: --secret NAME."
            )
        elif has_password(value):
            yield _in_address(f"The variable {name}")
    for argument in role.args:
        if any(has_password(word) for word in argument.split()):
            yield _in_address(f"An argument of the role {role.name}")


def _in_address(what: str) -> str:
    return (
        f"{what} holds an address with a password in it, which everyone who may list jobs could read. Give the address "
        "without it, and the credentials as a Secret (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD): --secret NAME."
    )


def _places(role: Role) -> Iterator[str]:
    """Yield folders that only a pod itself would see."""
    mounted = [mount.dst_path for mount in role.mounts]
    for flag, value in _arguments(role.args):
        if (flag == "--source" and value in _MADE) or value.startswith("<"):
            continue
        if "://" in value and not value.startswith(("file://", "local://")):
            if not urlsplit(value).netloc:
                yield f"{flag} {value} names no bucket. Write s3://BUCKET/FOLDER."
            continue
        path = value.split("://", 1)[-1]
        if not any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in mounted):
            folder = path if path.startswith("/") else "/data"
            address = "" if flag == "--source" else "Give an address that all reach, s3://BUCKET/FOLDER, or mount"
            yield (
                f"{flag} {value} is a folder inside the pod, which is gone with it and which no other pod sees. "
                f"{address or 'Mount'} a volume there: --mount type=volume,src=CLAIM,dst={folder}."
            )


def _arguments(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for i, argument in enumerate(args):
        flag, equals, value = argument.partition("=")
        if flag in _PLACES:
            if equals:
                yield flag, value
            elif i + 1 < len(args):
                yield flag, args[i + 1]


def _servers(role: Role) -> Iterator[str]:
    """Yield addresses that mean another machine inside a pod than outside."""
    for name in (TRACKING.variable, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        value = role.env.get(name, "")
        if not value or value.startswith("<"):
            continue
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname not in _HERE:
            continue
        if name == TRACKING.variable and parts.scheme in ("databricks", "postgresql", "mysql", "mssql"):
            continue
        if parts.hostname in _HERE:
            why = "means the pod itself"
        else:
            why = "is no server's address, so the record would be lost with the pod"
        yield f"{name} is {value}, which {why}. Give an address that pods reach, such as http://SERVICE.NAMESPACE:PORT."


def _length(app: AppDef, digits: int) -> Iterator[str]:
    for index, role in enumerate(app.roles):
        name = f"{app.name}-{'x' * digits}-{role.name}-{role.num_replicas - 1}" + "-0" * (index == 0)
        if len(name) > LONGEST:
            yield (
                f"The name of the job, {app.name!r}, and of its role {role.name!r} make pod names of {len(name)} "
                f"characters; Kubernetes takes {LONGEST}. Give the job a name that is {len(name) - LONGEST} shorter."
            )
            return


def unknown_options(where: str, given: Iterable[str], known: Collection[str]) -> list[str]:
    """Return sentences about options that the scheduler does not have; TorchX 0.7.0 would drop them."""
    return [
        f"{where}{name} is no run option of this scheduler.{did_you_mean(name, known)} Choose from "
        f"{', '.join(sorted(known))}."
        for name in given
        if name not in known
    ]
