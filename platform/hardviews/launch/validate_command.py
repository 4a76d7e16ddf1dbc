"""`hardviews validate`: all mistakes of a job before it is submitted, by TorchX or by Helm."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from hardviews.errors import UserError
from hardviews.launch.chart.examine import examine_chart
from hardviews.launch.chart.jobs import NAME
from hardviews.launch.chart.values import chart_folder
from hardviews.launch.findings import Findings, listed
from hardviews.launch.torchx_run import CmdRunFile

_SEPARATOR = "--"
_KUBERNETES = "kubernetes"
_DESCRIPTION = """Say all mistakes of a job on Kubernetes before it is submitted, in the words of `torchx run`.
Nothing is submitted. Exit code 0: nothing is wrong; 2: the mistakes are listed. Give either files of values of the
Helm chart, or `--` and the words that follow `torchx run -s kubernetes`."""
_EXAMPLES = """examples:
  hardviews validate values.yaml                                 values of the chart, as `helm install -f` takes them
  hardviews validate site.yaml run.yaml --cluster                two files, the later one wins; asks the cluster too
  hardviews validate -- jobs/pretrain.py --recipe photos -j 2:4x8
  hardviews validate --cluster -- -cfg queue=vision jobs/knn.py
"""


@dataclass(frozen=True)
class Validate:
    """The things to check: files of values, or words of `torchx run`."""

    files: tuple[str, ...]
    words: tuple[str, ...] | None
    cluster: bool
    chart: str | None
    namespace: str | None
    release: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"hardviews validate: {message}. See hardviews validate --help.")


def configure(words: Sequence[str]) -> Validate:
    """Read the command line.

    Raises:
        UserError: it names neither values nor a job, or both.
    """
    place = words.index(_SEPARATOR) if _SEPARATOR in words else len(words)
    before, after = list(words[:place]), tuple(words[place + 1 :])
    if file := next((word for word in before if word.partition(":")[0].endswith(".py")), None):
        raise UserError(
            f"{file} is a job of TorchX, and those come after a `--`: hardviews validate -- {file} ... Before it stand "
            "only options of hardviews validate."
        )
    parser = _Parser(
        prog="hardviews validate",
        usage="hardviews validate [OPTIONS] (VALUES.yaml ... | -- [-cfg KEY=VALUE] jobs/JOB.py ...)",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="*", metavar="VALUES.yaml", help="values of the chart; a later file wins")
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="ask the cluster of the kubeconfig too, and the object store if this machine reaches it",
    )
    parser.add_argument("--chart", metavar="FOLDER", help="folder of the chart (default: charts/hardviews)")
    parser.add_argument("--namespace", metavar="NAME", help="of the release (default: the kubeconfig context's)")
    parser.add_argument("--release", metavar="NAME", default=NAME, help="its name (default: %(default)s)")
    read = parser.parse_args(before)
    given = place < len(words)
    if given == bool(read.files):
        raise UserError(
            "Give either files of values, hardviews validate values.yaml, or a job of TorchX after a `--`, hardviews "
            f"validate -- jobs/pretrain.py{', not both' if given else ''}."
        )
    if given and (read.chart or read.namespace):
        raise UserError(
            "--chart and --namespace are for values of the chart. The namespace of a job of TorchX is an option after "
            "the `--`: hardviews validate -- -cfg namespace=NAME jobs/pretrain.py."
        )
    return Validate(tuple(read.files), after if given else None, read.cluster, read.chart, read.namespace, read.release)


def examine(config: Validate) -> Findings:
    """Find the mistakes in the values or the job of a command line."""
    if config.words is None:
        folder = chart_folder(config.chart)
        return examine_chart(config.files, folder, config.cluster, config.namespace, config.release)
    return examine_words(config.words, config.cluster)


def examine_words(words: Sequence[str], online: bool) -> Findings:
    """Find the mistakes that `torchx run -s kubernetes` would refuse.

    Args:
        words: words after `torchx run -s kubernetes`.
        online: whether to ask the cluster and the object store.

    Raises:
        UserError: the words cannot be read, or name no job.
    """
    command, parser = CmdRunFile(), argparse.ArgumentParser(prog="torchx run")
    command.add_arguments(parser)
    parser.set_defaults(scheduler=_KUBERNETES)
    read = parser.parse_args(list(words))
    if read.scheduler != _KUBERNETES:
        raise UserError(
            f"hardviews validate checks jobs on Kubernetes, and -s {read.scheduler} names another scheduler. Leave it "
            "out; torchx run checks a job of this machine before it starts."
        )
    return command.examine(read, online)


def run_validate(words: Sequence[str]) -> None:
    """Print the findings; the exit code shows whether there are mistakes.

    Raises:
        UserError: something is wrong, or the command line cannot be read.
    """
    config = configure(words)
    found = examine(config)
    for remark in found.remarks:
        print(remark, file=sys.stderr)
    for text in found.unchecked:
        print(f"not checked: {text}", file=sys.stderr)
    sys.stderr.flush()
    if found.mistakes:
        raise UserError(listed(found.mistakes, ""))
    print(f"Nothing is wrong with {_subject(config)}. Checked: {', '.join(found.checked)}.{_further(config)}")


def _subject(config: Validate) -> str:
    if config.words is None:
        return " and ".join(config.files)
    jobs = (word for word in config.words if word.partition(":")[0].endswith(".py") or word.startswith("hardviews."))
    return next(jobs, "the job")


def _further(config: Validate) -> str:
    return "" if config.cluster else " `--cluster` asks the cluster too."
