"""`torchx run` that accepts a file name alone: `FILE.py` means the component in it that is named like the file.

TorchX itself requires `FILE.py:FUNCTION`. The entry point `torchx.cli.cmds` in pyproject.toml replaces TorchX's own
class by this one; components, schedulers and options stay TorchX's.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path
from typing import Any, NoReturn

from torchx.cli.argparse_util import ArgOnceAction, torchxconfig_run
from torchx.cli.cmd_run import CmdRun, _parse_component_name_and_args
from torchx.runner import Runner
from torchx.runner.config import apply, find_configs, load_sections
from torchx.schedulers import get_scheduler_factories
from torchx.schedulers.local_scheduler import SignalException
from torchx.specs import AppDef, AppDryRunInfo, AppHandle, AppState, AppStatus, CfgVal
from torchx.specs.api import parse_app_handle
from torchx.util.types import to_dict

from hardviews.elastic.worker import MISTAKE
from hardviews.errors import UserError
from hardviews.launch import local, site
from hardviews.launch.component_file import find_component, name_function
from hardviews.launch.examiner import Examiner, component_of
from hardviews.launch.findings import Findings, listed
from hardviews.launch.kubernetes.cluster import patiently
from hardviews.launch.kubernetes.mistakes import unknown_options
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler
from hardviews.launch.slurm.scheduler import ElasticSlurmScheduler
from hardviews.launch.torchx_commands import in_words, keep_default_scheduler, refuse_in_words

_OURS = (ElasticKubernetesScheduler, ElasticSlurmScheduler)
_NOTHING = ", and nothing was submitted"
_LOG_LAG = 0.5  # seconds; five looks of the thread that writes a local job's log


class JobRunner(Runner):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """TorchX's runner, which fits our jobs to this machine and refuses a job with all its mistakes at once.

    Attributes:
        port: free port, for jobs on this machine.
        submits: whether jobs are run and not only shown. Then a value that the site has not given is a mistake, and the
            cluster is asked for the needs of the job.
        cluster_options: options of the Kubernetes scheduler from the environment, without options on the command line.
    """

    def __init__(self, port: int, submits: bool) -> None:
        super().__init__("torchx", get_scheduler_factories(), component_defaults=load_sections(prefix="component"))
        self.port = port
        self.submits = submits
        self.cluster_options: dict[str, CfgVal] = {}
        self._mistakes: list[str] = []

    def refuse_later(self, mistakes: Iterable[str]) -> None:
        """Add mistakes that were found before the job was made."""
        self._mistakes += mistakes

    def dryrun_component(
        self,
        component: str,
        component_args: list[str],
        scheduler: str,
        cfg: Mapping[str, CfgVal] | None = None,
        workspace: str | None = None,
        parent_run_id: str | None = None,
    ) -> AppDryRunInfo:
        app = self._job(component, component_args)
        if app is None:
            raise UserError(listed(self._mistakes, _NOTHING))
        return self.dryrun(app, scheduler, cfg=cfg, workspace=workspace, parent_run_id=parent_run_id)

    def examine_component(
        self, component: str, words: list[str], scheduler: str, cfg: Mapping[str, CfgVal], online: bool
    ) -> Findings:
        """Find the mistakes of a submission without submitting anything.

        Args:
            component: name of the component.
            words: its arguments.
            scheduler: name of the scheduler.
            cfg: its options.
            online: whether the cluster and the object store are asked.
        """
        app = self._job(component, words)
        found = Findings(list(self._mistakes), checked=["the arguments"])
        if app is not None:
            with Examiner(complete=True, online=online) as examiner:
                found.add(examiner.examine(app, self._scheduler(scheduler), self._options(scheduler, cfg)))
        return found

    def dryrun(
        self,
        app: AppDef,
        scheduler: str,
        cfg: Mapping[str, CfgVal] | None = None,
        workspace: str | None = None,
        parent_run_id: str | None = None,
    ) -> AppDryRunInfo:
        on_this_machine = scheduler in local.LOCAL_SCHEDULERS
        cfg = self._options(scheduler, cfg)
        if on_this_machine:
            local.localise(app, self.port)
        with Examiner(complete=self.submits, online=self.submits) as examiner:
            found = examiner.examine(app, self._scheduler(scheduler), cfg, here=on_this_machine)
        for remark in found.remarks:
            say(remark)
        self.refuse_later(mistake for mistake in found.mistakes if mistake not in self._mistakes)
        if self._mistakes:
            raise UserError(listed(self._mistakes, _NOTHING))
        return super().dryrun(app, scheduler, cfg=cfg, workspace=workspace, parent_run_id=parent_run_id)

    def _job(self, component: str, words: list[str]) -> AppDef | None:
        """Make the job of a component, noting the mistakes in its arguments; None if one is missing."""
        app, mistakes = component_of(find_component(component), words, self._component_defaults.get(component))
        self.refuse_later(mistakes)
        return app

    def _options(self, scheduler: str, cfg: Mapping[str, CfgVal] | None) -> dict[str, CfgVal]:
        """Return the options of a scheduler, with options from the environment."""
        ours = isinstance(self._scheduler(scheduler), ElasticKubernetesScheduler)
        return dict(cfg or {}) | (self.cluster_options if ours else {})

    def log_lines(self, app_handle: AppHandle, *args: Any, should_tail: bool = False, **options: Any) -> Iterator[str]:
        """Yield the log of a replica to its last line.

        The local scheduler copies a process's output to the log in a thread that looks every 0.1 s, and stops following
        once the job is over. The last lines are often missing then.
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

    def status(self, app_handle: AppHandle) -> AppStatus | None:
        """Return the status of a job; bridge a minute in which the cluster does not answer (`--wait`, `--log`)."""
        return patiently(lambda: super(JobRunner, self).status(app_handle))

    def schedule(self, dryrun_info: AppDryRunInfo) -> AppHandle:
        handle = super().schedule(dryrun_info)
        if isinstance(self._scheduler(dryrun_info._scheduler), _OURS):
            # Only the handle goes to stdout, for scripts.
            print(
                f"Submitted. What becomes of it: torchx status {handle}\nWhat it says:       torchx log -f {handle}\n"
                f"To stop it:         torchx cancel {handle}",
                file=sys.stderr,
                flush=True,
            )
        return handle


class CmdRunFile(CmdRun):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """The subcommand `run`."""

    def add_arguments(self, subparser: argparse.ArgumentParser) -> None:
        super().add_arguments(subparser)
        keep_default_scheduler(subparser)
        refuse_in_words(subparser, "run")
        for once in (ArgOnceAction, torchxconfig_run):
            once.called_args.clear()  # TorchX would count the options of an earlier command line of this process
        for action in subparser._actions:
            # TorchX would ask a Docker daemon to build every folder that it is called in, also for a dry run.
            if action.dest == "workspace" and action.default == f"file://{Path.cwd()}":
                action.default = ""

    def run(self, args: argparse.Namespace) -> None:
        try:
            with in_words("run"), local.reserved_port() as port, JobRunner(port, not args.dryrun) as runner:
                self._prepare(runner, args)
                try:
                    self._run(runner, args)
                except SignalException:
                    # TorchX's threads that follow the logs fail when the runner closes their files now.
                    threading.excepthook = lambda _: None
                    raise
        except SignalException as error:
            # The runner has stopped the job's processes already.
            print(f"torchx run: stopped by {error.sigval.name}", file=sys.stderr)
            sys.exit(128 + error.sigval)

    def examine(self, args: argparse.Namespace, online: bool) -> Findings:
        """Find the mistakes that `run` would refuse, without running anything.

        Args:
            args: the parsed command line.
            online: whether the cluster and the object store are asked.
        """
        with JobRunner(0, submits=False) as runner:
            self._prepare(runner, args)
            # As TorchX's `_run` reads the command line.
            cfg = runner.scheduler_run_opts(args.scheduler).cfg_from_str(args.scheduler_args)
            apply(args.scheduler, cfg)
            component, words = _parse_component_name_and_args(args.component_name_and_args, self._subparser)
            found: Findings = runner.examine_component(component, words, args.scheduler, cfg, online)
            return found

    def _prepare(self, runner: JobRunner, args: argparse.Namespace) -> None:
        """Complete the component's name, and note options that cannot be read."""
        args.component_name_and_args = name_function(args.component_name_and_args)
        runner.refuse_later(unreadable_options(runner, args.scheduler, args.scheduler_args))
        given = to_dict(args.scheduler_args or "")
        runner.cluster_options = {k: v for k, v in site.cluster_options().items() if k not in given}
        self._subparser.error = _misread

    def _wait_and_exit(self, runner: Runner, app_handle: AppHandle, log: bool) -> None:
        """Wait for a job; if a job on this machine failed, print a sentence: its own messages are in its log."""
        if app_handle.partition("://")[0] not in local.LOCAL_SCHEDULERS:
            super()._wait_and_exit(runner, app_handle, log)
            return
        follower = self._start_log_thread(runner, app_handle) if log else None
        status = runner.wait(app_handle, wait_interval=1)
        if follower is not None:
            follower.join()
        if status is None or status.state != AppState.SUCCEEDED:
            say("torchx run: The job failed; its messages are above.")
            sys.exit(_failure(runner, app_handle))


def _failure(runner: Runner, handle: str) -> int:
    """Return the exit code of a failed job of this machine: 2 if one of its processes met a mistake of the user."""
    scheduler, _, app_id = parse_app_handle(handle)
    replicas = runner._scheduler(scheduler)._apps[app_id].role_replicas.values()
    return MISTAKE if any(one.proc.returncode == MISTAKE for role in replicas for one in role) else 1


def _misread(message: str) -> NoReturn:
    """Refuse a command line that TorchX would answer with its usage text."""
    advice = (
        "Give each argument once, and several values of one as A,B."
        if message.startswith("Repeated")
        else ("Name the file of a job, for example jobs/pretrain.py.")
    )
    raise UserError(f"{message.rstrip('.')}. {advice}")


def unreadable_options(runner: Runner, scheduler: str, text: str | None) -> list[str]:
    """List the options of `-cfg` and, for our schedulers, of .torchxconfig that TorchX would drop.

    Raises:
        UserError: TorchX could not read the options.
    """
    options = runner.scheduler_run_opts(scheduler)
    known = [name for name, _ in options]
    try:
        if (text or "").rstrip().endswith("=") or "==" in (text or ""):
            # TorchX would take the name for a part of the previous value.
            raise ValueError("an option has no value")
        options.cfg_from_str(text or "")
        found = unknown_options("-cfg ", to_dict(text or ""), known)
    except (ValueError, IndexError) as error:
        raise UserError(
            f"-cfg {text} cannot be read: {error}. Write KEY=VALUE,KEY=VALUE, lists as A;B and pairs as NAME:VALUE. "
            f"What has a '=' in itself can be written under [{scheduler}] in .torchxconfig."
        ) from error
    ours = isinstance(runner._scheduler(scheduler), _OURS)
    for file in find_configs():
        sections = ConfigParser()
        sections.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            sections.read(file)
            if sections.has_section(site.SECTION):
                found += site.unknown_values(f"[{site.SECTION}] in {file}: ", sections[site.SECTION])
            if not ours:
                continue
            if sections.has_section(scheduler):
                found += unknown_options(f"[{scheduler}] in {file}: ", sections[scheduler], known)
            apply(scheduler, {}, dirs=None)
        except (ValueError, IndexError, ConfigError) as error:
            raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}.") from error
    return found


def say(text: str) -> None:
    """Print a message that is not a mistake to stderr: stdout has only the handle of the job."""
    print(text, file=sys.stderr, flush=True)
