"""`torchx run` that takes a file name alone: `FILE.py` means the component in it that is named like the file.

TorchX wants `FILE.py:FUNCTION`. The entry point `torchx.cli.cmds` in pyproject.toml puts this class in the
place of TorchX's own; components, schedulers and options stay TorchX's.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchx.cli.cmd_run import CmdRun
from torchx.runner import Runner
from torchx.runner.config import load_sections
from torchx.schedulers import get_scheduler_factories
from torchx.schedulers.local_scheduler import SignalException
from torchx.specs import AppDef, AppDryRunInfo, AppHandle, CfgVal

from hardviews.errors import UserError
from hardviews.launch import local, site

_LOG_LAG = 0.5  # seconds; five looks of the thread that writes a local job's log


def name_function(words: Sequence[str]) -> list[str]:
    """Completes the component of a command line: `jobs/knn.py` becomes `jobs/knn.py:knn`.

    Args:
        words: what follows the options of `torchx run`; a leading `--` is TorchX's separator.

    Raises:
        UserError: the file does not exist.
    """
    completed = list(words)
    place = 1 if completed[:1] == ["--"] else 0
    if len(completed) > place and completed[place].endswith(".py") and ":" not in completed[place]:
        file = Path(completed[place])
        if not file.is_file():
            raise UserError(
                f"There is no component file {file} in {Path.cwd()}. Give the path from where you are; this "
                "project's jobs are in the folder jobs/ of the checkout."
            )
        completed[place] = f"{file}:{file.stem.replace('-', '_')}"
    return completed


class JobRunner(Runner):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """TorchX's runner, which fits our jobs to this machine and submits none that lacks a value."""

    def __init__(self, port: int) -> None:
        super().__init__("torchx", get_scheduler_factories(), component_defaults=load_sections(prefix="component"))
        self._port = port

    def dryrun(
        self,
        app: AppDef,
        scheduler: str,
        cfg: Mapping[str, CfgVal] | None = None,
        workspace: str | None = None,
        parent_run_id: str | None = None,
    ) -> AppDryRunInfo:
        if scheduler in local.LOCAL_SCHEDULERS:
            local.localise(app, self._port)
        return super().dryrun(app, scheduler, cfg=cfg, workspace=workspace, parent_run_id=parent_run_id)

    def log_lines(self, app_handle: AppHandle, *args: Any, should_tail: bool = False, **options: Any) -> Iterator[str]:
        """Yields the log of a replica to its last line.

        The local scheduler copies a process's output to the log by a thread that looks every 0.1 s, and stops
        following once the job is over: what was said last is often not there yet.
        """
        shown = 0
        for text in super().log_lines(app_handle, *args, should_tail=should_tail, **options):
            shown += len(text)
            yield text
        if should_tail and app_handle.partition("://")[0] in local.LOCAL_SCHEDULERS:
            time.sleep(_LOG_LAG)
            whole = "".join(super().log_lines(app_handle, *args, should_tail=False, **options))
            if len(whole) > shown:
                yield whole[shown:]

    def schedule(self, dryrun_info: AppDryRunInfo) -> AppHandle:
        site.require(dryrun_info._app, local=dryrun_info._scheduler in local.LOCAL_SCHEDULERS)
        return super().schedule(dryrun_info)


class CmdRunFile(CmdRun):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """The subcommand `run`."""

    def run(self, args: argparse.Namespace) -> None:
        try:
            args.component_name_and_args = name_function(args.component_name_and_args)
            with local.reserved_port() as port, JobRunner(port) as runner:
                try:
                    self._run(runner, args)
                except SignalException:
                    # TorchX's threads that follow the logs trip over the files that the runner closes now.
                    threading.excepthook = lambda _: None
                    raise
        except UserError as error:
            print(f"torchx run: {error}", file=sys.stderr)
            sys.exit(2)
        except SignalException as error:
            # The runner has stopped the job's processes on the way here.
            print(f"torchx run: stopped by {error.sigval.name}", file=sys.stderr)
            sys.exit(128 + error.sigval)
