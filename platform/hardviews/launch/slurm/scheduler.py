"""TorchX's scheduler `slurm`, for jobs that save, leave and continue."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, List  # noqa: UP035

from torchx.schedulers.api import AppDryRunInfo, DescribeAppResponse, ListAppResponse, Stream, filter_regex
from torchx.schedulers.slurm_scheduler import SlurmScheduler
from torchx.specs import AppDef, AppState, runopts

from hardviews.errors import UserError
from hardviews.launch.findings import Findings
from hardviews.launch.slurm.client import Refused, slurm, without_secrets
from hardviews.launch.slurm.logs import lines, log_file
from hardviews.launch.slurm.mistakes import examine
from hardviews.launch.slurm.options import SlurmOptions, add_options
from hardviews.launch.slurm.records import parts_of, parts_of_mine
from hardviews.launch.slurm.script import ours, script
from hardviews.launch.slurm.status import STATES, is_ours, response

_OVER = (AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED)


@dataclass(frozen=True)
class Submission:
    """The input of `sbatch`.

    Attributes:
        script: script of the job.
        folder: folder in which the job runs and writes its logs.
    """

    script: str
    folder: str

    def __str__(self) -> str:
        return self.script


class ElasticSlurmScheduler(SlurmScheduler):  # type: ignore[misc]  # torchx 0.7.0 ships no types
    """TorchX's Slurm scheduler, extended for elastic jobs; TorchX runs components of others.

    Jobs in the queue come from `squeue`, and only older jobs from `sacct`: a cluster need not keep accounts.
    """

    def _run_opts(self) -> runopts:
        return add_options(super()._run_opts())

    # Submission

    def examine(self, app: AppDef, cfg: Mapping[str, Any], online: bool) -> Findings:
        """Return the mistakes of a submission; send requests to Slurm only if `online`."""
        return examine(app, SlurmOptions.read(cfg), _folder(cfg), online) if ours(app) else Findings()

    def _submit_dryrun(self, app: AppDef, cfg: Mapping[str, Any]) -> AppDryRunInfo[Any]:
        if not ours(app):
            return super()._submit_dryrun(app, cfg)
        options = SlurmOptions.read(cfg)
        memory = self._partition_memmb(options.passed_on.get("partition"))
        # A partition refuses requests for memory if the memory of its nodes is not configured.
        made = script(app, options, _folder(cfg), memory=memory is None or memory > 1000)
        return AppDryRunInfo(Submission(made, _folder(cfg)), str)

    def schedule(self, dryrun_info: AppDryRunInfo[Any]) -> str:
        request = dryrun_info.request
        if not isinstance(request, Submission):
            return str(super().schedule(dryrun_info))
        try:
            Path(request.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder of the job, {request.folder}, cannot be created: {error.strerror}. Give another: "
                "-cfg job_dir=FOLDER."
            ) from error
        try:
            printed = slurm("sbatch", "--parsable", text=request.script, variables=without_secrets())
        except Refused as error:
            raise UserError(f"Slurm does not accept the job: {error}.") from error
        return printed.strip().partition(";")[0]

    # Existing jobs

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        parts = parts_of(app_id)
        return response(parts) if parts else None

    def list(self) -> List[ListAppResponse]:  # noqa: UP006
        return [
            ListAppResponse(app_id=part.job, state=STATES.get(part.state, AppState.FAILED))
            for part in parts_of_mine()
            if part.number == 0
        ]

    def _cancel_existing(self, app_id: str) -> None:
        """Cancel the job; a running job of hardviews first saves, with its whole grace."""
        parts = parts_of(app_id)
        saves = bool(parts) and is_ours(parts) and parts[0].state == "RUNNING" and not parts[0].name.endswith("-packer")
        try:
            slurm("scancel", *(["--signal=USR2", "--batch"] if saves else []), app_id)
        except Refused as error:
            raise UserError(f"Slurm does not cancel the job {app_id}: {error}.") from error

    def log_iter(
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        parts = parts_of(app_id)
        if not parts:
            raise UserError(f"Slurm has no record of a job {app_id}. Its logs are slurm-{app_id}-*.log in its folder.")
        if not is_ours(parts):
            found: Iterable[str] = super().log_iter(app_id, role_name, k, regex, since, until, should_tail, streams)
            return found
        if streams not in (None, Stream.COMBINED):
            raise UserError("A job of hardviews has one log of both streams. Leave out --streams.")
        file = log_file(parts[0].folder, app_id, role_name, k)
        if not file.exists() and not should_tail:
            raise UserError(
                f"There is no log {file} yet, or this machine does not see its folder: "
                f"{role_name}/{k} has written nothing."
            )
        found = lines(file, should_tail, lambda: self._over(app_id))
        return filter_regex(regex, found) if regex else found

    def _over(self, app_id: str) -> bool:
        described = self.describe(app_id)
        return described is None or described.state in _OVER


def _folder(cfg: Mapping[str, Any]) -> str:
    """Return the folder of the job's logs; by default the current folder."""
    return os.path.abspath(cfg.get("job_dir") or os.getcwd())


def create_scheduler(session_name: str, **_: Any) -> ElasticSlurmScheduler:
    """Return the scheduler, for the entry point `torchx.schedulers`."""
    return ElasticSlurmScheduler(session_name)
