"""The command line: `hardviews COMMAND`, typed from the configurations themselves.

A user's mistake is answered in one paragraph and exit code 2, never by a traceback.
"""

import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hardviews import __version__, interrupts, streams
from hardviews.errors import UserError
from hardviews.extras import in_one_sentence, need_torch
from hardviews.failures import of_machine
from hardviews.launch.address_space import check_address_space

_GUIDE = """hardviews pretrains visual encoders on hard views.

commands:
  demo        pretrain on a small data set (or your own images), evaluate, show the table: start here
  pack        turn a folder of images into shards
  pretrain    pretrain an encoder by a recipe
  finetune    train an encoder further, on all labels of a data set or on some
  validate    list all mistakes of a job on Kubernetes before it is submitted, by TorchX or by Helm
  launch      pretrain or evaluate on several nodes that come and go, all of them processes of this machine
  knn         score an encoder by its nearest neighbours
  linear      score an encoder by a linear probe
  fewshot     score an encoder by few labelled images of each class
  transfer    score an encoder by linear classifiers on other data sets
  import      make an encoder of a file with the weights of another code, to be scored like a run
  classify    score the classifier of a training by labels
  compare     runs side by side, with the uncertainty of each difference
  export      hand an encoder to timm, transformers, ONNX and others; write its model card
  health      state whether a run is healthy, collapsing, collapsed or diverged, and why
  audit       prove that a run trained on every sample exactly once
  runs        list the tracking's runs; close dead runs, send records that are still on this machine
  recipes     list the recipes, or show one: hardviews recipes show NAME
  estimate    passes, FLOPs, memory and hours of a recipe, plain and on hard views, before it is run
  doctor      check this machine, its stores and its cluster, with a remedy for each fault
  bug-report  pack a run's records and this machine's versions into a file, without secrets

next:
  hardviews demo                                             a first result, in minutes
  hardviews pack --source IMAGES --out shards                your own images, one folder a class
  hardviews pretrain photos --data shards --output runs/1    a first run; run it again to continue
  hardviews knn --run runs/1 --data shards                   the encoder's score
  hardviews export runs/1 --format timm                      a folder that timm loads
  hardviews pretrain photos --help                           every setting; likewise for the other commands
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; the exit code is 0, or 2 for a user's mistake."""
    streams.prepare()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Torch is not loaded yet: make its threads sleep and not spin if others use the cores too. On two busy cores this
    # gave 210 images a second instead of 13.
    os.environ["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY") or "PASSIVE"
    if arguments is None:
        # Python's helper processes look for modules in the current folder first: a user's file random.py there must not
        # replace Python's own.
        os.environ["PYTHONSAFEPATH"] = os.environ.get("PYTHONSAFEPATH") or "1"
    if os.getpid() == 1:
        # The first process of a container does not get signals that it does not handle: it would be killed only at the
        # end of the grace period.
        _end_in_order()
    try:
        try:
            with interrupts.listening():
                _run(words)
        finally:
            sys.stdout.flush()  # also when help ends the process
    except UserError as error:
        print(f"hardviews: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("hardviews: interrupted", file=sys.stderr)
        if arguments is None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing remains to be ended in order
        raise SystemExit(130) from None
    except BrokenPipeError:
        if not streams.reader_left():
            raise
        streams.abandon("stdout", "stderr")
        raise SystemExit(141) from None
    except OSError as error:
        # Code that writes to a disk names the place; this is for the rest, such as libraries.
        remedy = of_machine(error, "A disk of this machine")
        if remedy is None:
            raise
        print(f"hardviews: {remedy.words}", file=sys.stderr)
        raise SystemExit(2) from None


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(_GUIDE)
    elif words[0] in ("--version", "-V", "version"):
        print(f"hardviews {__version__}")
    elif words[0] in _COMMANDS:
        if words[0] not in _WITHOUT_TORCH:
            need_torch(f"hardviews {words[0]}")
        check_address_space(words[0])
        with in_one_sentence(f"hardviews {words[0]}"):
            _COMMANDS[words[0]](words[1:])
    elif words[0].startswith("-"):
        raise UserError(
            f"The command comes first, before {words[0]}: hardviews COMMAND {words[0]} ... Choose one of "
            f"{', '.join(_COMMANDS)}; see hardviews --help."
        )
    else:
        close = difflib.get_close_matches(words[0], _COMMANDS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"There is no command {words[0]!r}.{hint} Choose one of {', '.join(_COMMANDS)}; see hardviews --help."
        )


def _pretrain(words: list[str]) -> None:
    from hardviews.elastic.worker import supervised
    from hardviews.recipes.command import read_pretrain
    from hardviews.train.loop import pretrain

    with supervised():
        where, recipe = read_pretrain(words)
        pretrain(recipe, where)


def _finetune(words: list[str]) -> None:
    from hardviews.elastic.worker import supervised
    from hardviews.recipes.finetuning import read_finetune

    with supervised():
        read_finetune(words).run()


def _launch(words: list[str]) -> None:
    from hardviews.launch.launcher import run_launch

    if code := run_launch(words):
        raise SystemExit(code)


def _validate(words: list[str]) -> None:
    from hardviews.launch.validate_command import run_validate

    run_validate(words)


def _pack(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.data.pack_command import Packing

    parse(Packing, words, "pack").run()


def _knn(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.knn import Knn, evaluate_knn
    from hardviews.evaluation.report import announce, check_logged

    with _evaluating():
        check_logged([evaluate_knn(parse(Knn, words, "knn"), announce)])


def _linear(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.linear import Linear, evaluate_linear
    from hardviews.evaluation.report import announce, check_logged

    with _evaluating():
        check_logged([evaluate_linear(parse(Linear, words, "linear"), announce)])


def _fewshot(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.fewshot import Fewshot, evaluate_fewshot
    from hardviews.evaluation.report import announce, check_logged

    with _evaluating():
        check_logged([evaluate_fewshot(parse(Fewshot, words, "fewshot"), announce)])


def _transfer(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.transfer import Transfer, run_transfer
    from hardviews.evaluation.report import check_logged

    with _evaluating():
        check_logged(list(run_transfer(parse(Transfer, words, "transfer")).values()))


def _classify(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.probes.classify import Classify, evaluate_classify
    from hardviews.evaluation.report import announce, check_logged

    with _evaluating():
        check_logged([evaluate_classify(parse(Classify, words, "classify"), announce)])


@contextmanager
def _evaluating() -> Iterator[None]:
    """Run an evaluation, as one process of its job if our agent has started it."""
    from hardviews.elastic.worker import supervised

    _end_in_order()
    with supervised():
        yield


def _import(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.foreign.command import Import, run_import

    _end_in_order()
    run_import(parse(Import, words, "import"))


def _compare(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.compare import Compare, run_compare

    run_compare(parse(Compare, words, "compare"))


def _health(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.evaluation.monitoring.health import Health, run_health

    if not run_health(parse(Health, words, "health")):
        raise SystemExit(1)


def _end_in_order() -> None:
    """Let SIGTERM end this process by an exception, so that the tracking records that it was killed."""
    signal.signal(signal.SIGTERM, interrupts.terminate)


def _export(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.export.command import Export, run_export

    _end_in_order()
    run_export(parse(Export, words, "export"))


def _audit(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.runs.audit import Audit, run_audit

    run_audit(parse(Audit, words, "audit"))


def _runs(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.runs.listing import Runs, run_runs

    run_runs(parse(Runs, words, "runs"))


def _recipes(words: list[str]) -> None:
    from hardviews.settings_only import read_settings_only

    read_settings_only()
    from hardviews.recipes.table import shown, table

    if "-h" in words or "--help" in words:
        print("usage: hardviews recipes            every recipe in a line")
        print("       hardviews recipes show NAME  one, with all its values")
    elif words[:1] == ["show"] and len(words) == 2:
        print(shown(words[1]))
    elif not words:
        print(table())
    else:
        raise UserError(
            "Say `hardviews recipes` for a list, or `hardviews recipes show NAME` for one with all its values."
        )


def _estimate(words: list[str]) -> None:
    from hardviews.estimate.command import run_estimate

    run_estimate(words)


def _doctor(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.doctor.command import run_doctor
    from hardviews.doctor.settings import Doctor

    _end_in_order()
    if not run_doctor(parse(Doctor, words, "doctor")):
        raise SystemExit(1)


def _bug_report(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.doctor.bug_report.command import BugReport, run_bug_report

    _end_in_order()
    run_bug_report(parse(BugReport, words, "bug-report"))


def _demo(words: list[str]) -> None:
    from hardviews.arguments import parse
    from hardviews.demo import Demo, run_demo

    run_demo(parse(Demo, words, "demo"))


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "pack": _pack,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "validate": _validate,
    "launch": _launch,
    "knn": _knn,
    "linear": _linear,
    "fewshot": _fewshot,
    "transfer": _transfer,
    "import": _import,
    "classify": _classify,
    "compare": _compare,
    "export": _export,
    "health": _health,
    "audit": _audit,
    "runs": _runs,
    "recipes": _recipes,
    "estimate": _estimate,
    "doctor": _doctor,
    "bug-report": _bug_report,
}
_WITHOUT_TORCH = ("pack", "validate", "recipes", "doctor", "bug-report")  # commands of a client

if __name__ == "__main__":
    main()
