"""Finds the mistakes in values of the Helm chart, by their schema and by the checks of `torchx run`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardviews.launch import site
from hardviews.launch.chart.jobs import NAME, NO_RUN, NO_SOURCE, NO_TUNED, ChartJob, jobs_of, submitter_of
from hardviews.launch.chart.schema import Violation, violations
from hardviews.launch.chart.values import defaults, entry_of, merge, read_values, without
from hardviews.launch.chart.wording import in_values
from hardviews.launch.examiner import Examiner
from hardviews.launch.findings import Findings
from hardviews.launch.kubernetes.mistakes import validate
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler, create_scheduler
from hardviews.launch.pod_options import PodOptions


def examine_chart(
    files: Sequence[str],
    folder: Path,
    online: bool = False,
    namespace: str | None = None,
    release: str = NAME,
    scheduler: ElasticKubernetesScheduler | None = None,
) -> Findings:
    """Return all findings about values of the chart; sentences about a job begin with its key.

    Args:
        files: files of values; a later one wins.
        folder: folder of the chart.
        online: whether to ask the cluster and the object store.
        namespace: namespace of the release; None for the namespace of the kubeconfig's context.
        release: name of the release.
        scheduler: scheduler that asks the cluster; None for the kubeconfig's cluster.

    Raises:
        UserError: a file cannot be read.
    """
    given, below = read_values(files), defaults(folder)
    refused = violations(merge(below, given), folder)
    kept = [one for one in refused if not _said_by_torchx(one, refused, given, below)]
    values = merge(below, without(given, [one.place for one in kept]))
    found = Findings([one.text for one in kept], checked=["the schema of the chart"])
    with Examiner(complete=False, online=online) as examiner:
        backend = scheduler or create_scheduler("hardviews")
        helm = submitter_of(values, release)
        by_job = {}
        for job in jobs_of(values, release):
            cfg = {**job.cfg, **({"namespace": namespace} if namespace else {})}
            one = Findings([*job.mistakes, *_missing(job)])
            one.add(examiner.examine(job.app, backend, cfg, submitter=helm))
            by_job[job.key] = one
    found.mistakes += _of_jobs({key: one.mistakes for key, one in by_job.items()})
    found.remarks += _of_jobs({key: one.remarks for key, one in by_job.items()})
    found.unchecked += _of_jobs({key: one.unchecked for key, one in by_job.items()})
    found.checked += dict.fromkeys(what for one in by_job.values() for what in one.checked)
    if by_job:
        found.checked[0] += f", the jobs {', '.join(by_job)}" if len(by_job) > 1 else f", the job {next(iter(by_job))}"
    else:
        found.remarks.append("No job is enabled. Enable one in the values, for example pretrain: {enabled: true}.")
    return found


def _said_by_torchx(
    one: Violation, refused: Sequence[Violation], given: Mapping[str, Any], below: Mapping[str, Any]
) -> bool:
    """Return whether the checks of the jobs refuse a value too, so that the sentence of the schema is not needed.

    The checks are made with this value, but without all other values that the schema refuses.
    """
    mine = [other for other in refused if entry_of(other.place) == entry_of(one.place)]
    if any(other.form for other in mine):
        return False  # its entry in a list cannot be read
    places = [other.place for other in refused]
    others = [other.place for other in refused if other not in mine]
    sound = set(_quick(merge(below, without(given, places))))
    return bool(set(_quick(merge(below, without(given, others)))) - sound)


def _quick(values: Mapping[str, Any]) -> list[str]:
    """Return the mistakes of the jobs that are found without reading the words of their commands."""
    helm = submitter_of(values, NAME)
    return [
        text
        for job in jobs_of(values)
        for text in (*job.mistakes, *validate(job.app, PodOptions.of_site(job.cfg), helm))
    ]


_REMEDIES = {
    NO_SOURCE: "source is empty. Give a folder of class folders, a list file, or the name of a dataset.",
    NO_RUN: "run is empty, and so is the chart's output. Give the encoder that is trained further.",
    NO_TUNED: "finetune.output is empty. Give a URL for the tuned encoder, not that of the pretraining.",
}


def _missing(job: ChartJob) -> list[str]:
    found = [
        f"{value.argument} is empty ({value.meaning}). Write it into the values."
        for value in site.missing(job.app, local=False)
    ]
    words = job.app.roles[-1].args
    found += [remedy for placeholder, remedy in _REMEDIES.items() if placeholder in words]
    return found


def _of_jobs(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Put the keys of the jobs before each sentence."""
    keys: dict[str, list[str]] = {}
    for key, sentences in texts.items():
        for text in map(in_values, sentences):
            keys.setdefault(text, []).append(key)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in keys.items()]
