"""The file of a job's credentials: lines of NAME=VALUE, which only its owner may read."""

import re
from pathlib import Path

from hardviews.errors import UserError


def read_secrets(file: str) -> dict[str, str]:
    """Read the variables in a file; empty lines and lines that begin with # are ignored.

    Raises:
        UserError: the file is missing, others may read it, or a line is not a variable. The message contains no value.
    """
    path = Path(file)
    if not path.is_absolute():
        raise UserError(f"secrets={file} is not a full path. Give a path on all nodes, such as {path.absolute()}.")
    try:
        mode = path.stat().st_mode
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(
            f"The file of credentials {file} cannot be read: {why}. Write NAME=VALUE lines into it."
        ) from None
    if mode & 0o077:
        raise UserError(f"Others may read the file of credentials {file}. Take their rights away: chmod 600 {file}")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*?)\s*", line)
        if match is None:
            raise UserError(f"Line {number} of the credentials file {file} is not of the form NAME=VALUE. Correct it.")
        value = match[2]
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[match[1]] = value[1:-1] if quoted else value
    return found
