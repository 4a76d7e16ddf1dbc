"""One task of a job on Slurm: a module of hardviews, with the job's credentials in its environment.

`python -m hardviews.launch.slurm.task --folder FOLDER --secrets FILE -- hardviews.elastic.agent ...`
"""

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from hardviews.elastic.worker import MISTAKE
from hardviews.errors import UserError
from hardviews.launch.slurm.secrets import read_secrets


def prepare(folder: str, secrets: str | None) -> None:
    """Check that this node sees the job's folder, and add the credentials to the environment.

    Slurm starts a task in /tmp if the folder is missing on its node.

    Raises:
        UserError: the folder or the file of credentials is not on this node.
    """
    if folder and Path.cwd() != Path(folder).resolve():
        node = os.environ.get("SLURMD_NODENAME", "this node")
        raise UserError(
            f"{node} does not see the folder of the job, {folder}. Give one on a file system that all nodes share: "
            "-cfg job_dir=FOLDER. Data and output must be on such a file system too, or in an object store."
        )
    if secrets:
        os.environ.update(read_secrets(secrets))


def main(words: Sequence[str] | None = None) -> None:
    """Run the module whose name follows the first `--`."""
    parser = argparse.ArgumentParser(description="Run a module as a task of a job on Slurm.")
    parser.add_argument("--folder", default="", help="folder of the job, which all nodes see")
    parser.add_argument("--secrets", metavar="FILE", help="file with the job's credentials")
    given = sys.argv[1:] if words is None else list(words)
    place = given.index("--")
    options, command = parser.parse_args(given[:place]), given[place + 1 :]
    try:
        prepare(options.folder, options.secrets)
    except UserError as error:
        print(f"the job cannot begin: {error}", file=sys.stderr, flush=True)
        sys.exit(MISTAKE)
    sys.argv[1:] = command[1:]
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
