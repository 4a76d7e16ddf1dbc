"""A run's description: Markdown in sections, each of which one writer keeps.

The training writes the verdict, settings and commands, every evaluation its scores. A writer replaces only its own
section, so the text of others and of people stays.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hardviews.tracking.scrub import scrub

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NOTE = "mlflow.note.content"
"""Tag: the description that MLflow shows on a run's page."""

HEAD = ""
"""Title of the text before the first section: the verdict."""

EXPERIMENT = "{experiment}"
"""Placeholder in a section for the id of the run's experiment, for addresses of MLflow's pages."""

# Begin of the title of a section: MLflow shows the first 100 pixels of a description, and larger titles fill them.
_MARK = "### "
# MLflow cuts tags at 8000 characters.
_LONGEST = 7900
_CUT = "\n\n(The rest is left out: MLflow keeps 8000 characters.)"
_ATTEMPTS = 3


def fitted(note: str) -> str:
    """Return a note without secrets that MLflow keeps whole; a note that is too long is cut at a line."""
    note = scrub(note).strip()
    if len(note) <= _LONGEST:
        return note
    return note[: _LONGEST - len(_CUT)].rpartition("\n")[0].rstrip() + _CUT


def with_section(note: str, title: str, body: str, first: bool = False) -> str:
    """Return a note in which the section of this title has this body; an empty body removes the section.

    `title` is HEAD for the text before the first section. With `first` a new section comes before all others, not after
    them.
    """
    sections = dict(_sections(note))
    body = body.strip()
    if title not in sections and first:
        head = {HEAD: sections.pop(HEAD, "")}
        sections = {**head, title: body, **sections}
    else:
        sections[title] = body
    head_body = sections.pop(HEAD, "")
    parts = [head_body, *(f"{_MARK}{name}\n\n{text}" for name, text in sections.items() if text)]
    return "\n\n".join(part for part in parts if part)


def section(note: str, title: str) -> str:
    """Return the body of a section of a note, empty if there is none; `title` is as in `with_section`."""
    return dict(_sections(note)).get(title, "")


def _sections(note: str) -> Iterator[tuple[str, str]]:
    """Yield titles and bodies; lines in a block of code are not titles."""
    title, body, fenced = HEAD, list[str](), False
    for line in note.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith(_MARK) and not fenced:
            yield title, "\n".join(body).strip()
            title, body = line.removeprefix(_MARK).strip(), []
        else:
            body.append(line)
    yield title, "\n".join(body).strip()


def send_section(client: "MlflowClient", run_id: str, title: str, body: str, first: bool) -> None:
    """Replace a section of a run's description.

    Two evaluations may do so at once, and MLflow has no compare-and-swap, so the result is read again. MLflow's errors
    pass through.
    """
    for _ in range(_ATTEMPTS):
        run = client.get_run(run_id)
        body = scrub(body).replace(EXPERIMENT, str(run.info.experiment_id))
        note = run.data.tags.get(NOTE, "")
        new = fitted(with_section(note, title, body, first))
        if new == note:
            return
        client.set_tag(run_id, NOTE, new)
