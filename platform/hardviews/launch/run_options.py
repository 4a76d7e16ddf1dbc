"""The options of `torchx run` itself, which come before the job's file."""

from collections.abc import Iterable

RUN_OPTIONS = {
    "-s": " NAME",
    "--scheduler": " NAME",
    "-cfg": " KEY=VALUE",
    "--scheduler_args": " KEY=VALUE",
    "--dryrun": "",
    "--wait": "",
    "--log": "",
    "--workspace": " FOLDER",
    "--buck-target": " TARGET",
    "--parent_run_id": " ID",
}
"""The form of its value by option."""

ALSO_OURS = {"--wait"}
"""Options of jobs too, with a value."""

SWITCHES = {option for option, value in RUN_OPTIONS.items() if not value} - ALSO_OURS
"""Options without a value."""


def before_the_file(option: str) -> str:
    """Return a sentence with the right place of an option of `torchx run`."""
    return (
        f"{option} is an option of torchx run itself, and those come before the file: torchx run "
        f"{option}{RUN_OPTIONS[option]} FILE."
    )


def misplaced(words: Iterable[str]) -> str:
    """Return one sentence for each word of a command that is an option of `torchx run` alone, each after a blank."""
    options = dict.fromkeys(word.partition("=")[0] for word in words)
    return "".join(f" {before_the_file(name)}" for name in options if name in RUN_OPTIONS and name not in ALSO_OURS)
