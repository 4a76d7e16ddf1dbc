"""Pictures as the files that MLflow's pages show with a slider over steps, and tables with thumbnails.

The page needs no call of MLflow's client for that. It reads the key and the step from the name of a file. A tag marks
the existence of such files.
"""

import io
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hardviews.errors import UserError

FOLDER = "images"
"""Folder of a run's artifacts for pictures with steps in MLflow."""

LOGGED_IMAGES, LOGGED_TABLES = "mlflow.loggedImages", "mlflow.loggedArtifacts"
"""Tags: whether there are pictures with steps, and the list of tables."""

WIDEST = 1600
"""Largest width of a contact sheet in pixels."""

_SMALL = 256  # longer side in pixels of the preview that MLflow shows first
_KEY = re.compile(r"[A-Za-z0-9_\-./ ]+")
_NAME = re.compile(r"(?P<key>.+)\+step\+(?P<step>-?\d+)\+timestamp\+(?P<time>\d+)\+(?P<id>[^+]+)(\+compressed)?\.\w+")


def write_picture(picture: Any, folder: Path, key: str, step: int, milliseconds: int) -> None:
    """Write a picture and its preview under the names that MLflow's pages read.

    `picture` is a PIL image, pixels (H, W) or (H, W, 3) as uint8, or a matplotlib figure; if it is wider than 1600
    pixels, it is reduced. `milliseconds` are since 1970.

    Raises:
        UserError: the key has a character that MLflow does not accept.
    """
    if not _KEY.fullmatch(key):
        raise UserError(f"A picture's key may hold letters, digits and _ - . / and spaces, and {key!r} does not.")
    image = as_image(picture)
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    # The same picture gets the same name in every life of a job.
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{key}/{step}")
    stem = f"{key.replace('/', '~')}+step+{step}+timestamp+{milliseconds}+{name}"
    image.save(place / f"{stem}.png")
    _reduced(image, _SMALL).save(place / f"{stem}+compressed.webp")


def parsed(name: str) -> tuple[str, int] | None:
    """Return key and step of a picture's file, None for any other file."""
    match = _NAME.fullmatch(Path(name).name)
    return None if match is None else (match["key"].replace("~", "/"), int(match["step"]))


def write_table(rows: Sequence[Mapping[str, Any]], folder: Path, path: str) -> None:
    """Write rows as the JSON table that MLflow shows; pictures in it become thumbnails.

    Columns are the keys of all rows. A column holds either only pictures, as in `write_picture` but without figures,
    or no picture.

    Raises:
        UserError: the path does not end in .json, or a column holds pictures and other values.
    """
    if not path.endswith(".json"):
        raise UserError(f"A table's path ends in .json, and {path!r} does not.")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    pictures = {name for name in columns if any(_is_picture(row.get(name)) for row in rows)}
    for name in pictures:
        if not all(_is_picture(row.get(name)) for row in rows):
            raise UserError(f"The column {name!r} of a table holds pictures and other values.")
    data = []
    for number, row in enumerate(rows):
        cells = []
        for name in columns:
            value = row.get(name)
            if name in pictures:
                value = _write_thumbnail(value, folder, path, f"{number}/{name}")
            cells.append(_plain(value))
        data.append(cells)
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"columns": columns, "data": data}), encoding="utf-8")


def as_image(picture: Any) -> Image.Image:
    """Return a picture as a PIL image, at most 1600 pixels wide."""
    if isinstance(picture, Image.Image):
        image = picture
    elif isinstance(picture, np.ndarray):
        image = Image.fromarray(picture)
    else:
        from hardviews.tracking.drawing import save_figure  # matplotlib takes a second to import

        buffer = io.BytesIO()
        save_figure(picture, buffer)
        image = Image.open(buffer)
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, max(1, round(image.height * WIDEST / image.width))), Image.Resampling.LANCZOS)
    return image


def _write_thumbnail(picture: Any, folder: Path, table: str, place: str) -> dict[str, str]:
    name = f"table_images/{table.removesuffix('.json')}/{uuid.uuid5(uuid.NAMESPACE_URL, place)}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image = _reduced(as_image(picture), _SMALL)
    image.save(folder / f"{name}.png")
    image.save(folder / f"{name}.webp")
    return {"type": "image", "filepath": f"{name}.png", "compressed_filepath": f"{name}.webp"}


def _reduced(image: Image.Image, side: int) -> Image.Image:
    factor = side / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(factor * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _is_picture(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, np.ndarray) and value.ndim >= 2)


def _plain(value: Any) -> Any:
    """Return a cell as a value for JSON: MLflow's pages cannot read NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
