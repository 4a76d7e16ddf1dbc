"""The logs of a bug report: last lines of local files and of a job's pods, with the job's events."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from hardviews.doctor.bug_report.archive import Archive
from hardviews.elastic import timeline
from hardviews.errors import UserError

_BYTES = 150_000  # most bytes of each log
_FILES = 40  # most files of one folder
_PODS = 20
_LINES = "400"  # last lines of a pod's log


def add_files(archive: Archive, paths: Sequence[str]) -> None:
    """Add the end of each file and of each file in a folder, and the job's timeline if the environment names one.

    Raises:
        UserError: a path does not exist.
    """
    for named in paths:
        if not os.path.exists(named):
            raise UserError(f"--logs {named} does not exist. Give a log file, or a folder with log files.")
    given = os.environ.get(timeline.VARIABLE, "")
    if given and given != "-" and os.path.isfile(given):
        _tail(archive, Path(given), "timeline.jsonl")
    taken: set[str] = set()
    for named in paths:
        path = Path(named)
        inside = _inside(archive, path) if path.is_dir() else [path]
        for file in sorted(sorted(inside, key=_written, reverse=True)[:_FILES]):
            relative = str(file.relative_to(path.parent)) if path.is_dir() else file.name
            name = f"logs/{relative}"
            while name in taken:
                name += "-2"
            taken.add(name)
            _tail(archive, file, name)
        if len(inside) > _FILES:
            archive.note(f"{path} holds {len(inside)} files; the newest {_FILES} are packed")


def _inside(archive: Archive, folder: Path) -> list[Path]:
    """Return the files in a folder, without links that lead out of it, perhaps to a private file."""
    root = folder.resolve()
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    inside = [file for file in files if file.resolve().is_relative_to(root)]
    if len(inside) < len(files):
        archive.note(f"{folder} has {len(files) - len(inside)} links to files outside of it; they are not packed")
    return inside


def _written(file: Path) -> float:
    """Return the time of the last change; a file that has gone meanwhile is the oldest."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _tail(archive: Archive, path: Path, name: str) -> None:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _BYTES))
            data = stream.read(_BYTES)
    except OSError as error:
        archive.note(f"{name} could not be read: {error.strerror}")
        return
    if size > _BYTES:
        data = data.partition(b"\n")[2]  # a secret that is cut in two could not be recognised
        if not data:
            archive.note(f"{name} is not packed: its last line has more than {_BYTES:,} bytes")
            return
        archive.note(f"{name} has the last {len(data)} of {size} bytes")
    archive.add(name, data.decode(errors="replace"), _BYTES)


def job_of(handle: str) -> tuple[str, str]:
    """Return the namespace and the name of a job on Kubernetes.

    Args:
        handle: handle of the job as `torchx list` prints it, or NAMESPACE:NAME.

    Raises:
        UserError: the handle has another form.
    """
    namespace, separator, name = handle.rpartition("/")[2].partition(":")
    if not separator or not namespace or not name:
        raise UserError(
            f"--job {handle} is not the handle of a job. Write kubernetes://torchx/NAMESPACE:NAME, as torchx list does."
        )
    return namespace, name


def add_job(archive: Archive, handle: str) -> None:
    """Add the state, the events and the last lines of each pod of a job on Kubernetes.

    Raises:
        UserError: the handle is not one (`job_of`).
    """
    namespace, name = job_of(handle)
    try:
        _add_job(archive, namespace, name)
    except ImportError as error:
        archive.note(f"the job {name} was not read: the Python package {error.name} is missing")
    except UserError as error:
        archive.note(f"the job {name} could not be read: {error}")


def _add_job(archive: Archive, namespace: str, name: str) -> None:
    from urllib3.exceptions import HTTPError

    from hardviews.launch.kubernetes.cluster import JOBS, ApiRefused, Cluster

    cluster, home = Cluster(timeout=(5.0, 15.0)), f"/api/v1/namespaces/{namespace}"
    label = f"volcano.sh/job-name={name}"
    try:
        job = cluster.find(f"{JOBS}/namespaces/{namespace}/jobs/{name}")
        if job is None:
            archive.note(f"the namespace {namespace} has no job {name}")
        else:
            archive.add("job/job.json", json.dumps(_bare(job), indent=1))
        pods = cluster.get(f"{home}/pods", labelSelector=label).get("items", [])
    except ApiRefused as error:
        archive.note(f"the job {name} could not be read: {error.message}")
        return
    archive.add("job/pods.json", json.dumps([_bare(pod) for pod in pods], indent=1))
    try:
        events = cluster.get(f"{home}/events").get("items", [])
        ours = [one for one in events if str((one.get("involvedObject") or {}).get("name", "")).startswith(name)]
        lines = [
            f"{one.get('lastTimestamp') or one.get('eventTime')}  {one.get('type')}  {one.get('reason')}  "
            f"{one['involvedObject'].get('name')}: {' '.join(str(one.get('message', '')).split())}"
            for one in ours
        ]
        archive.add("job/events.txt", "\n".join(lines) + "\n")
    except ApiRefused as error:
        archive.note(f"the events of the job could not be read: {error.message}")
    for pod in pods[:_PODS]:
        own = pod["metadata"]["name"]
        for previous in ({}, {"previous": "true"}):
            try:
                data = cluster.text(f"{home}/pods/{own}/log", tailLines=_LINES, timestamps="true", **previous)
            except ApiRefused as error:
                if not previous:
                    archive.note(f"the log of {own} could not be read: {error.message}")
                continue
            except HTTPError as error:
                archive.note(f"the log of {own} broke off: {error}")
                continue
            archive.add(f"job/{own}{'-before' if previous else ''}.log", data.decode(errors="replace"), _BYTES)
    if len(pods) > _PODS:
        archive.note(f"the job has {len(pods)} pods; the logs of {_PODS} are packed")


def _bare(found: dict[str, object]) -> dict[str, object]:
    """Return an object of the API without the copies of itself in its metadata."""
    metadata = dict(found.get("metadata") or {})  # type: ignore[call-overload]
    metadata.pop("managedFields", None)
    metadata.pop("annotations", None)
    return {**found, "metadata": metadata}
