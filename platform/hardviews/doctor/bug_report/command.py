"""`hardviews bug-report`: packs a run's records and this machine's versions into one file, to be read and sent."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from hardviews.doctor.bug_report.archive import Archive
from hardviews.doctor.bug_report.logs import add_files, add_job, job_of
from hardviews.doctor.bug_report.machine import add_machine
from hardviews.doctor.bug_report.run import add_run
from hardviews.errors import UserError
from hardviews.storage.url import check_given, check_here, local_path


@dataclass(frozen=True)
class BugReport:
    """Pack the records of a run and the versions of this machine into a zip, without secrets. Nothing is sent.

    Passwords, keys, tokens and signatures are replaced, as are the home folder and the name of the user. A run that is
    broken or half written is packed as far as it can be read.

    Attributes:
        run: output of a training, a folder or s3://BUCKET/PREFIX.
        output: the file; by default hardviews-bug-report-TIME.zip in the current folder.
        logs: log files, or folders with log files: the last lines of each file are packed.
        job: handle of a job on Kubernetes as `torchx list` prints it: its state, events and last log lines are packed.
        data: URL of the dataset, for the audit; None uses the run's own.
    """

    run: tyro.conf.Positional[str]
    output: str | None = None
    logs: tuple[str, ...] = ()
    job: str | None = None
    data: str | None = None

    def __post_init__(self) -> None:
        """Refuse empty places, an output that is not a zip, and another handle than that of a job."""
        check_given(run=self.run, data=self.data)
        check_here(output=self.output)
        if self.output is not None and not self.output.endswith(".zip"):
            raise UserError(f"--output {self.output} must end with .zip.")
        if self.job is not None:
            job_of(self.job)


def run_bug_report(config: BugReport) -> Path:
    """Write the file, and print its contents; return its path.

    Raises:
        UserError: there is no run, or the file cannot be written.
    """
    name = config.output or f"hardviews-bug-report-{time.strftime('%Y%m%d-%H%M%S')}.zip"
    path = Path(name).expanduser().absolute()
    archive = Archive()
    archive.check(path)
    print("reading the run, auditing it, checking this machine: up to some minutes", file=sys.stderr, flush=True)
    add_run(archive, config.run, config.data)
    add_files(archive, config.logs)
    if config.job is not None:
        add_job(archive, config.job)
    add_machine(archive, config.run if local_path(config.run) is not None else None)
    archive.write(path)
    for entry, size in archive.sizes.items():
        print(f"{size:>10,} bytes  {entry}")
    for note in archive.notes:
        print(f"note: {note}")
    print(f"\n{path}: {path.stat().st_size:,} bytes. Secrets, the home folder and user names were replaced.")
    print("No program finds every secret: read it before you send it. Nothing was sent.")
    return path
