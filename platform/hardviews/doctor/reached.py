"""The cluster that the probes of Kubernetes share: one request checks whether it answers."""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardviews.doctor.clock import compare
from hardviews.doctor.finding import Finding, mistake, ok, skipped
from hardviews.doctor.settings import Doctor
from hardviews.errors import UserError
from hardviews.launch.kubernetes.cluster import ApiRefused, Cluster, open_client

_TIMEOUT = (5.0, 10.0)  # seconds to connect, and between two pieces of an answer
_OPTION = "--namespace NAME, --context NAME or KUBECONFIG"


@dataclass(frozen=True)
class Reached:
    """A cluster after the first request to it.

    Attributes:
        cluster: None if it cannot be reached.
        namespace: namespace of the jobs.
        findings: findings about the configuration of the client, and about the answer.
        reason: reason to skip other probes; empty if the cluster answers, or if no cluster is named.
    """

    cluster: Cluster | None
    namespace: str
    findings: tuple[Finding, ...]
    reason: str = ""

    def skip(self, what: str) -> Iterator[Finding]:
        """Yield the finding about a thing that cannot be examined; nothing if no cluster is named."""
        if self.reason:
            yield skipped(what, self.reason)


@functools.lru_cache(maxsize=1)
def reach(settings: Doctor) -> Reached:
    """Read the configuration of the client, and request the version of the API."""
    named = settings.namespace or "default"
    if not settings.asks_cluster:
        there = Path("~/.kube/config").expanduser().exists()
        text = "no cluster is named" + ("; a configuration is at ~/.kube/config" if there else "")
        return Reached(None, named, (skipped("client", text, _OPTION),))
    found: list[Finding] = []
    try:
        file = None if settings.kubeconfig is None else os.path.expanduser(settings.kubeconfig)
        if file is not None and not os.path.isfile(file):
            raise UserError(f"--kubeconfig {settings.kubeconfig} is not a file. Give the file of your cluster.")
        api, namespace = open_client(file, settings.context)
    except UserError as error:
        return Reached(None, named, (mistake("client", error),), "the client has no configuration")
    except Exception as error:  # from the YAML parser, or from a login program
        words = f"The kubeconfig cannot be read: {' '.join(str(error).split())[:300]}. Correct it; try kubectl version."
        return Reached(None, named, (mistake("client", UserError(words)),), "the client has no configuration")
    named = settings.namespace or namespace or "default"
    cluster = Cluster(api, namespace, _TIMEOUT)
    found.append(ok("client", f"{api.configuration.host}, namespace {named}"))
    try:
        version, date = cluster.get_with_date("/version")
    except ApiRefused as error:
        if not error.kubernetes:
            return Reached(None, named, (*found, mistake("API", cluster.foreign(error))), "the API was not reached")
        found.append(ok("API", f"it answers, but does not state its version ({error.message})"))
        return Reached(cluster, named, tuple(found))
    except UserError as error:
        return Reached(None, named, (*found, mistake("API", error)), "the API was not reached")
    found += [ok("API", f"Kubernetes {version.get('gitVersion', 'of an unknown version')}"), compare(date)]
    return Reached(cluster, named, tuple(found))


def refused(what: str, error: ApiRefused, right: str) -> Finding:
    """Return the finding for an answer that is not a success: a thing is skipped if the right to read it is missing."""
    if error.status == 403:
        remedy = f"Ask the cluster's owner for the right to {right}: docs/rbac.yaml."
        return skipped(what, f"not permitted: {error.message}", remedy)
    return mistake(what, UserError(f"The cluster refused a request: {error.message}. See the log of its API server."))
