"""The origin of an imported encoder: in its description, in `import.json`, and in words."""

import json
from collections.abc import Mapping
from typing import Any

from hardviews.errors import UserError
from hardviews.foreign.imported import Imported
from hardviews.foreign.left_over import Group, listed
from hardviews.models.encoder_files import IMPORT
from hardviews.storage.store import open_store

KEY = "import"
"""Name in an encoder's provenance."""


def origin(one: Imported, date: str) -> dict[str, Any]:
    """Return the origin of an imported encoder, for its description. date: of the import, as YYYY-MM-DD."""
    return {
        "file": one.contents.file,
        "sha256": one.contents.sha256,
        "layout": one.found.layout.name,
        "part": one.found.place.part,
        "date": date,
        **one.facts,
        "left_over": listed([group for group in one.groups if group.expected]),
        "unexpected": listed([group for group in one.groups if not group.expected]),
    }


def account(one: Imported, date: str, digest: str, run_id: str) -> dict[str, Any]:
    """Return the content of `import.json`: the origin, and every name in the file that is not the encoder's."""
    fitted = one.fitted
    return {
        "format": "hardviews import 1",
        "digest": digest,
        "run_id": run_id,
        **origin(one, date),
        "backbone": fitted.backbone.name,
        "left_over": [_group(group) for group in one.groups if group.expected],
        "unexpected": [_group(group) for group in one.groups if not group.expected],
        "missing": list(fitted.filled),
        "converted_to_float32": dict(fitted.converted),
    }


def _group(group: Group) -> dict[str, Any]:
    return {"prefix": group.prefix, "count": group.count, "meaning": group.meaning, "names": list(group.names)}


def read_account(output: str) -> Mapping[str, Any] | None:
    """Return the content of `import.json` in a folder, at a path or URL, None if nothing was imported there.

    Raises:
        UserError: it is damaged.
    """
    store = open_store(output)
    try:
        found = json.loads(store.read(IMPORT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(f"{store.name(IMPORT)} is damaged. Import the file of weights again.") from error
    return found if isinstance(found, dict) else None


def sentence(provenance: Mapping[str, Any]) -> str:
    """Return the origin of the weights of an imported encoder, empty for other encoders."""
    known = provenance.get(KEY)
    if not isinstance(known, Mapping):
        return ""
    return (
        f"Weights imported from {known['file']} (layout {known['layout']}, part {known['part']}, SHA-256 "
        f"{known['sha256']}) on {known['date']}."
    )


def tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the origin of an imported encoder as tags of an MLflow run, none for other encoders."""
    known = provenance.get(KEY)
    if not isinstance(known, Mapping):
        return {}
    return {f"hardviews.import.{name}": str(known[name]) for name in ("file", "sha256", "layout", "part", "date")}
