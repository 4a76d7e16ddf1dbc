"""TorchX's subcommands for existing jobs, with mistakes in one paragraph.

The entry points `torchx.cli.cmds` in pyproject.toml replace TorchX's own classes by these, which keep the output.
TorchX 0.7.0 would show a traceback if the cluster does not answer, and wait for ever for the log of a job that does not
exist.
"""

import argparse
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from torchx.cli.cmd_base import SubCommand
from torchx.cli.cmd_cancel import CmdCancel
from torchx.cli.cmd_describe import CmdDescribe
from torchx.cli.cmd_list import CmdList
from torchx.cli.cmd_log import CmdLog
from torchx.cli.cmd_status import CmdStatus
from torchx.runner import Runner, get_runner
from torchx.schedulers import DEFAULT_SCHEDULER_MODULES, get_default_scheduler_name
from torchx.specs import AppStatus
from torchx.specs.api import MalformedAppHandleException, is_started, parse_app_handle

from hardviews import streams
from hardviews.errors import UserError, did_you_mean

_LOOK_AGAIN = 2.0  # seconds between two looks at a job that has not started


@contextmanager
def in_words(command: str) -> Iterator[None]:
    """Answer a mistake with one paragraph and exit code 2, and an interrupt without a traceback."""
    streams.prepare()
    _quieten()
    try:
        yield
    except UserError as error:
        print(f"torchx {command}: {error}", file=sys.stderr)
        sys.exit(2)
    except MalformedAppHandleException as error:
        print(
            f"torchx {command}: {str(error).split(',')[0]}. Give the job as `torchx run` and `torchx list` print it: "
            "kubernetes://torchx/NAMESPACE:NAME.",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        if not streams.reader_left():
            raise
        streams.abandon("stdout", "stderr")
        sys.exit(141)


def _quieten() -> None:
    """Hide TorchX's remarks on its own work, unless the user asks for them (--log_level DEBUG)."""
    if logging.getLogger().level == logging.INFO:
        logging.getLogger("torchx").setLevel(logging.WARNING)


def keep_default_scheduler(subparser: argparse.ArgumentParser) -> None:
    """Restore TorchX's default scheduler: if schedulers are registered, 0.7.0 takes the first by name."""
    for action in subparser._actions:
        if action.dest == "scheduler" and action.default == get_default_scheduler_name():
            action.default = next(iter(DEFAULT_SCHEDULER_MODULES))


def refuse_in_words(subparser: argparse.ArgumentParser, command: str) -> None:
    """Answer a command line that cannot be read with one paragraph in place of the usage text, with exit code 2."""

    def refuse(message: str) -> NoReturn:
        option, _, rest = message.removeprefix("argument ").partition(": ")
        if unknown := re.match(r"invalid choice: (['\"])(.*)\1 \(choose from", rest):
            action = next(action for action in subparser._actions if option in "/".join(action.option_strings))
            choices = list(action.choices or ())
            message = (
                f"{action.option_strings[-1]}: there is no {action.dest} {unknown[2]!r}."
                f"{did_you_mean(unknown[2], choices)} Choose from {', '.join(choices)}"
            )
        end = "" if message.endswith(("?", ".")) else "."
        print(f"torchx {command}: {message}{end} See torchx {command} --help.", file=sys.stderr)
        sys.exit(2)

    read = subparser.parse_known_args

    def read_all(args: Any = None, namespace: Any = None) -> Any:
        found, unknown = read(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            known = [name for action in subparser._actions for name in action.option_strings]
            refuse(f"{option} is not an option of torchx {command}.{did_you_mean(option, known)}")
        return found, unknown

    subparser.error = refuse  # type: ignore[method-assign]
    subparser.parse_known_args = read_all  # type: ignore[method-assign]


def status_of(runner: Runner, handle: str) -> AppStatus:
    """Return the status of a job.

    Raises:
        UserError: there is no such job.
    """
    scheduler, _, app_id = parse_app_handle(handle)
    try:
        status = runner.status(handle)
    except KeyError as error:
        raise UserError(f"There is no scheduler {scheduler!r}. `torchx runopts` lists those there are.") from error
    if status is None:
        raise UserError(
            f"There is no job {app_id} (any more). `torchx list -s {scheduler}` shows those that are there."
        )
    return status


class Status(CmdStatus):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """The subcommand `status`."""

    def run(self, args: argparse.Namespace) -> None:
        with in_words("status"):
            status = status_of(get_runner(), args.app_handle)
            shown = status.format([role for role in args.roles.split(",") if role])
            # Empty fields are left out.
            empty = ("Msg: ", "Structured Error Msg: <NONE>", "UI URL: None")
            print(
                "\n".join(
                    line
                    for line in shown.splitlines()
                    if line.strip(" ") and line.strip() + " " not in empty and line.strip() not in empty
                )
            )


class Describe(CmdDescribe):  # type: ignore[misc]
    """The subcommand `describe`."""

    def run(self, args: argparse.Namespace) -> None:
        with in_words("describe"):
            status_of(get_runner(), args.app_handle)
            super().run(args)


class List(CmdList):  # type: ignore[misc]
    """The subcommand `list`."""

    def add_arguments(self, subparser: argparse.ArgumentParser) -> None:
        super().add_arguments(subparser)
        keep_default_scheduler(subparser)
        refuse_in_words(subparser, "list")

    def run(self, args: argparse.Namespace) -> None:
        with in_words("list"):
            super().run(args)


class Cancel(CmdCancel):  # type: ignore[misc]
    """The subcommand `cancel`."""

    def run(self, args: argparse.Namespace) -> None:
        with in_words("cancel"):
            status = status_of(get_runner(), args.app_handle)
            if status.is_terminal():
                print(f"The job is over already: {status.state}.", file=sys.stderr)
                return
            super().run(args)
            print(
                "Cancelled: its processes save and leave now. `torchx status` shows when they are gone.",
                file=sys.stderr,
            )


class Delete(SubCommand):  # type: ignore[misc]
    """The subcommand `delete`, which TorchX 0.7.0 does not have."""

    def add_arguments(self, subparser: argparse.ArgumentParser) -> None:
        subparser.add_argument("app_handle", help="torchx app handle, as `torchx list` shows it")

    def run(self, args: argparse.Namespace) -> None:
        with in_words("delete"):
            runner = get_runner()
            status_of(runner, args.app_handle)
            scheduler, name, app_id = runner._scheduler_app_id(args.app_handle)
            if not hasattr(scheduler, "delete"):
                raise UserError(f"The scheduler {name} keeps no record of jobs that could be deleted.")
            scheduler.delete(app_id)


class Log(CmdLog):  # type: ignore[misc]
    """The subcommand `log`."""

    def add_arguments(self, subparser: argparse.ArgumentParser) -> None:
        super().add_arguments(subparser)
        subparser.add_argument("-f", "--follow", dest="tail", action="store_true", help="the same as --tail")

    def run(self, args: argparse.Namespace) -> None:
        with in_words("log"):
            scheduler, _, path = args.identifier.partition("://")
            parts = path.split("/")
            if len(parts) > 1:
                handle = f"{scheduler}://{parts[0] or 'default'}/{parts[1]}"
                wait_for_start(get_runner(), handle, follow=args.tail)
            threading.excepthook = _one_paragraph
            super().run(args)


def wait_for_start(runner: Runner, handle: str, follow: bool) -> None:
    """Wait until a job has a log, and print why it has none yet.

    Raises:
        UserError: there is no such job, or it has not started and `follow` is not set.
    """
    said = ""
    while not is_started((status := status_of(runner, handle)).state):
        message = f"The job has no log yet, it is {status.state}. {status.msg}".strip()
        if not follow:
            raise UserError(f"{message} `torchx log -f` waits for it.")
        if message != said:
            print(message, file=sys.stderr, flush=True)
            said = message
        time.sleep(_LOOK_AGAIN)


def _one_paragraph(failure: Any) -> None:
    """Print nothing if a thread that follows a log fails: the command gets its exception too, and reports it."""
    if not isinstance(failure.exc_value, UserError):
        sys.__excepthook__(failure.exc_type, failure.exc_value, failure.exc_traceback)
