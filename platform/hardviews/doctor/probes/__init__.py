"""The probes of `hardviews doctor`, in the order of the report. A new one needs a file here, its import, and a line."""

from hardviews.doctor.probe import Probe
from hardviews.doctor.probes import (
    cluster_api,
    cluster_nodes,
    cluster_queue,
    cluster_rights,
    cluster_storage,
    cores,
    data,
    disks,
    gpus,
    memory,
    namespace,
    open_files,
    output,
    python,
    shared_memory,
    torch_build,
    tracking,
    volcano,
)

PROBES: tuple[Probe, ...] = (
    python.PROBE,
    torch_build.PROBE,
    gpus.PROBE,
    cores.PROBE,
    memory.PROBE,
    disks.PROBE,
    shared_memory.PROBE,
    open_files.PROBE,
    data.PROBE,
    output.PROBE,
    tracking.PROBE,
    cluster_api.PROBE,
    volcano.PROBE,
    cluster_queue.PROBE,
    namespace.PROBE,
    cluster_rights.PROBE,
    cluster_nodes.PROBE,
    cluster_storage.PROBE,
)
