"""The options of `hardviews doctor`, and their defaults from the environment."""

import os
from dataclasses import dataclass, replace

from hardviews.checked import OPTION, above, require
from hardviews.storage.url import check_given
from hardviews.tracking.settings import TRACKING_URI, setting


@dataclass(frozen=True)
class Doctor:
    """Check this machine, its stores and its cluster, and print a remedy for each thing that is missing.

    A place that is neither given nor set in the environment is skipped. Exit code: 0 if nothing is missing, else 1.

    Attributes:
        data: folder or s3://BUCKET/PREFIX of the packed dataset; by default HARDVIEWS_DATA.
        output: folder or address for runs; the check writes a small file and removes it; by default HARDVIEWS_OUTPUT.
        tracking_uri: address of the MLflow server; by default MLFLOW_TRACKING_URI.
        kubeconfig: file with the cluster's address; by default KUBECONFIG.
        context: context of the kubeconfig; by default its current one.
        namespace: namespace of the jobs; by default HARDVIEWS_NAMESPACE, else the namespace of the context.
        queue: Volcano queue of the jobs; by default HARDVIEWS_QUEUE.
        write: also write a small file to the data and a run to the MLflow server, and remove both.
        timeout: seconds that each probe may take.
        json: print the report as JSON.
    """

    data: str | None = None
    output: str | None = None
    tracking_uri: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    queue: str | None = None
    write: bool = False
    timeout: float = 30.0
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse empty places, and a time limit of zero."""
        check_given(data=self.data, output=self.output)
        require(self, OPTION, timeout=above(0).note("seconds"))

    @property
    def asks_cluster(self) -> bool:
        """Whether a cluster is named, by an option or by the environment."""
        named = (self.kubeconfig, self.context, self.namespace, self.queue, setting("KUBECONFIG"))
        return any(value is not None for value in named)

    def settled(self) -> "Doctor":
        """Return the settings; values that were not given come from the environment."""
        return replace(
            self,
            data=self.data or setting("HARDVIEWS_DATA") or _of_site("data"),
            output=self.output or setting("HARDVIEWS_OUTPUT") or _of_site("output"),
            tracking_uri=self.tracking_uri or setting(TRACKING_URI),
            namespace=self.namespace or setting("HARDVIEWS_NAMESPACE"),
            queue=self.queue or setting("HARDVIEWS_QUEUE"),
        )


def _of_site(name: str) -> str | None:
    """Return a value of .torchxconfig; None if it has no such value, or if TorchX is not installed."""
    try:
        from hardviews.launch import site
    except ImportError:
        return None
    value = {"data": site.DATA, "output": site.OUTPUT}[name]
    found = value.resolve(os.environ.get(value.variable))
    return None if found == value.placeholder else found
