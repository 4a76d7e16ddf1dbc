"""Writes the menu of versions into a folder of built sites.

python docs/building/versions.py FOLDER [--address https://OWNER.github.io/hardviews]

FOLDER holds a site for each version: `latest`, and one for each tag, such as `v0.1.0`. The program writes
`versions.json`, which the menu of every version reads. `index.html` redirects to the newest tag, or to `latest` if
there is no tag.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>hardviews</title>
<meta http-equiv="refresh" content="0; url={0}/">
<a href="{0}/">hardviews {0}</a>
"""


def menu(folders: Sequence[str], address: str) -> list[dict[str, str | bool]]:
    """Return the entries of the menu: `latest`, then tags from the newest to the oldest; other folders are left out.

    Pages of other versions have a warning with a link to the preferred entry.
    """
    tags = sorted(filter(_TAG.fullmatch, folders), key=_numbers, reverse=True)
    shown = [*(["latest"] if "latest" in folders else []), *tags]
    preferred = tags[0] if tags else "latest"
    return [
        {"name": _name(folder, preferred), "version": folder, "url": f"{address.rstrip('/')}/{folder}/"}
        | ({"preferred": True} if folder == preferred else {})
        for folder in shown
    ]


def write(folder: Path, address: str) -> None:
    """Write `versions.json` and `index.html` into the folder of the sites."""
    entries = menu([path.name for path in folder.iterdir() if path.is_dir()], address)
    if not entries:
        raise SystemExit(
            f"{folder} does not hold a site: build one into {folder}/latest, or into a folder named after its tag."
        )
    preferred = next(str(entry["version"]) for entry in entries if entry.get("preferred"))
    for name, text in (("versions.json", json.dumps(entries, indent=1)), ("index.html", _PAGE.format(preferred))):
        new = folder / f".{name}"
        new.write_text(text)
        new.rename(folder / name)


def _numbers(tag: str) -> tuple[int, ...]:
    return tuple(map(int, tag[1:].split(".")))


def _name(folder: str, preferred: str) -> str:
    if folder == "latest":
        return "latest (main)"
    return f"{folder} (newest)" if folder == preferred else folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="", help="address of FOLDER on the web; by default the root of its server")
    given = parser.parse_args()
    write(given.folder, given.address)
