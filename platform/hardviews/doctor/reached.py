"""The cluster that the probes of Kubernetes share: asked once whether it answers."""

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
    """A cluster after the first question to it.

    Attributes:
        cluster: None if it cannot be asked.
        namespace: of the jobs.
        findings: about the configuration of the client, and the answer.
        reason: for which other probes are skipped; empty if the cluster answers, and if none is named.
    """

    cluster: Cluster | None
    namespace: str
    findings: tuple[Finding, ...]
    reason: str = ""

    def skip(self, what: str) -> Iterator[Finding]:
        """Yield the finding of a thing that cannot be looked at; none if no cluster was asked for."""
        if self.reason:
            yield skipped(what, self.reason)


@functools.lru_cache(maxsize=1)
def reach(settings: Doctor) -> Reached:
    """Read the configuration of the client, and ask the API for its version."""
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
    except Exception as error:  # of the parser of YAML, or of a program that logs in
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
        found.append(ok("API", f"it answers; it does not say its version ({error.message})"))
        return Reached(cluster, named, tuple(found))
    except UserError as error:
        return Reached(None, named, (*found, mistake("API", error)), "the API was not reached")
    found += [ok("API", f"Kubernetes {version.get('gitVersion', 'of an unknown version')}"), compare(date)]
    return Reached(cluster, named, tuple(found))


def refused(what: str, error: ApiRefused, right: str) -> Finding:
    """Return the finding for an answer that is not a success: a missing right leaves a thing unlooked at."""
    if error.status == 403:
        remedy = f"Ask the cluster's owner for the right to {right}: docs/rbac.yaml."
        return skipped(what, f"we may not look: {error.message}", remedy)
    return mistake(
        what, UserError(f"The cluster refused a question: {error.message}. Look at the log of its API server.")
    )
