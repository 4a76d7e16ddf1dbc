"""The mistakes of a job on Slurm, found before it is submitted."""

import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from torchx.specs import AppDef, Role

from hardviews.errors import UserError, did_you_mean
from hardviews.extras import MissingExtra, need_torch
from hardviews.launch.credentials import confidential, has_password
from hardviews.launch.findings import Findings
from hardviews.launch.pod_options import PodOptions
from hardviews.launch.preflight import command
from hardviews.launch.site import TRACKING
from hardviews.launch.slurm.client import Refused, rows, slurm
from hardviews.launch.slurm.meeting import place_of
from hardviews.launch.slurm.options import SlurmOptions
from hardviews.launch.slurm.script import elastic
from hardviews.launch.slurm.secrets import read_secrets
from hardviews.storage.sight import remote

_PLACES = ("--data", "--output", "--run", "--out", "--source")
_MADE = {"digits", "photographs"}  # sources that are not folders: hardviews.data.pack_command
_OWN = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # folders that differ on every machine
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


def examine(app: AppDef, options: SlurmOptions, folder: str, online: bool) -> Findings:
    """Return the mistakes of one of our jobs.

    Args:
        app: the job.
        options: options of the scheduler.
        folder: folder for its logs.
        online: whether to send requests to Slurm.
    """
    found = Findings()
    work = elastic(app)
    least, most, grace = (work.least, work.most, work.grace) if work else (1, 1, 0)
    found.mistakes += options.mistakes(least, most, grace)
    if work is None and (options.join or options.start):
        found.mistakes.append("join and start are for jobs of several nodes; this one has one process. Leave them out.")
    for role in app.roles:
        found.mistakes += _lacking(role)
        found.mistakes += _amounts(role)
        found.mistakes += _credentials(role)
        found.mistakes += _of_kubernetes(role)
        found.mistakes += _relative(role)
    if options.secrets:
        try:
            read_secrets(options.secrets)
        except UserError as error:
            found.mistakes.append(str(error))
    elif left := _left_out(app):
        found.remarks.append(
            f"{', '.join(left)} of this environment are not given to the job. Its processes read ~/.aws, or a file "
            "that only you may read: -cfg secrets=FILE."
        )
    if online:
        try:
            _ask(app, options, folder, found)
        except UserError as error:
            found.mistakes.append(str(error))
    found.mistakes[:] = dict.fromkeys(found.mistakes)
    return found


def _ask(app: AppDef, options: SlurmOptions, folder: str, found: Findings) -> None:
    """Check the partitions and jobs that the job names, and its folders, by requests to Slurm."""
    slurm("sbatch", "--version")
    try:
        known = rows(slurm("sinfo", "--noheader", "--Node", "--format", "%R|%n"), ("partition", "host"))
    except Refused as error:
        raise UserError(f"Slurm does not list its partitions: {error}. Try again when sinfo works.") from error
    partitions = {row["partition"] for row in known}
    wanted = [options.passed_on.get("partition", ""), options.coordinator_partition or ""]
    for name in [name for text in wanted for name in text.split(",") if name]:
        if name not in partitions:
            found.mistakes.append(
                f"Slurm has no partition {name}.{did_you_mean(name, partitions)} Choose from "
                f"{', '.join(sorted(partitions))}: -cfg partition=NAME."
            )
    if options.join and options.join.isdecimal():
        place_of(options.join)
    hosts = {
        row["host"].partition(".")[0] for row in known if not wanted[0] or row["partition"] in wanted[0].split(",")
    }
    if hosts - {socket.gethostname().partition(".")[0]}:
        found.mistakes += _not_shared(app, folder, options)
        found.mistakes += [text for role in app.roles for text in _servers(role)]


def _lacking(role: Role) -> Iterator[str]:
    """Yield the packages that the job needs: its processes use the Python that submits it."""
    words = command(role)
    if words and words[0] != "pack":
        try:
            need_torch(f"hardviews {words[0]}")
        except MissingExtra as error:
            yield f"{error}. The job uses this Python, {sys.executable}."


def _amounts(role: Role) -> Iterator[str]:
    if role.resource.cpu <= 0:
        yield f"The role {role.name} asks for {role.resource.cpu} CPU. Give at least one core: --cpu 1."
    if role.resource.memMB <= 0:
        yield f"The role {role.name} asks for {role.resource.memMB} MB of memory. Give --memMB, for example 4096."
    if role.resource.gpu < 0:
        yield f"The role {role.name} asks for {role.resource.gpu} GPUs. Give 0 or more."


def _credentials(role: Role) -> Iterator[str]:
    for name, value in role.env.items():
        if value and (confidential(name) or has_password(value)):
            yield (
                f"The variable {name} holds a credential. Values of --env are part of the job's script, which Slurm "
                "keeps. Write it into a file that only you may read: -cfg secrets=FILE."
            )
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield (
                f"{name!r} is not the name of an environment variable. Names have letters, digits and '_', and do "
                "not begin with a digit. Write --env NAME=VALUE,NAME=VALUE."
            )
    for word in role.args:
        if has_password(word):
            yield (
                f"An argument of the role {role.name} holds an address with a password in it, and Slurm keeps the "
                "job's script. Give the address without it, and the password by -cfg secrets=FILE."
            )


def _of_kubernetes(role: Role) -> Iterator[str]:
    said = PodOptions.of_role(role)
    if said.secrets:
        yield "--secret names Secrets of Kubernetes, but this job goes to Slurm. Give a file: -cfg secrets=FILE."
    if role.mounts:
        yield "--mount is for pods. Leave it out: on Slurm the processes see the folders of their nodes."


def _relative(role: Role) -> Iterator[str]:
    for flag, path in _folders(role):
        if not Path(path).is_absolute():
            yield (
                f"{flag} {path} is not a full path, but the job runs in a folder of its own. Give a path that all "
                f"nodes see, such as {Path(path).absolute()}."
            )


def _not_shared(app: AppDef, folder: str, options: SlurmOptions) -> Iterator[str]:
    """Yield a sentence for each folder that is not shared by all nodes."""
    for flag, path in [found for role in app.roles for found in _folders(role)]:
        if _own(path):
            yield (
                f"{flag} {path} is in a folder that the nodes do not share. Give one on a file system that all "
                "nodes share, or s3://BUCKET/FOLDER."
            )
    if _own(folder):
        yield f"The nodes do not share {folder}, the folder of the logs. Give another: -cfg job_dir=FOLDER."
    if options.secrets and _own(options.secrets):
        yield f"secrets={options.secrets} is in a folder that the nodes do not share. Keep it in your home."
    if _own(sys.prefix):
        yield (
            f"hardviews is installed in {sys.prefix}, which the nodes do not share. Install it on a file system "
            "that all nodes share."
        )


def _servers(role: Role) -> Iterator[str]:
    for name in (TRACKING.variable, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        value = role.env.get(name, "") or (os.environ.get(name, "") if name != TRACKING.variable else "")
        if urlsplit(value).hostname in _LOOPBACK:
            yield f"{name} is {value}, which means each node itself. Give an address that all nodes reach."


def _own(path: str) -> bool:
    full = os.path.realpath(path)
    return any(full == one or full.startswith(f"{one}/") for one in _OWN)


def _folders(role: Role) -> Iterator[tuple[str, str]]:
    """Yield the folders of a role, with their options."""
    for flag, value in _pairs(role.args):
        if value.startswith("<") or (flag == "--source" and value in _MADE) or value.startswith("torchvision:"):
            continue
        if not remote(value) and ("://" not in value or value.startswith(("file://", "local://"))):
            yield flag, value.split("://", 1)[-1]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in _PLACES and (equals or place + 1 < len(words)):
            yield flag, value if equals else words[place + 1]


def _left_out(app: AppDef) -> list[str]:
    """Return the names of credentials in this environment that the job may need."""
    stores = any(remote(value) for role in app.roles for _, value in _pairs(role.args))
    names = [name for name in sorted(os.environ) if confidential(name)]
    return [name for name in names if stores or not name.startswith("AWS_")]
