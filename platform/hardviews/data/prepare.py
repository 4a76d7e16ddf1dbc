"""Read and decode images before they are packed, a few at a time and in order."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from hardviews.data.source import Item, Source, name_of
from hardviews.errors import UserError
from hardviews.failures import of_machine
from hardviews.ordered_map import ordered_map
from hardviews.views.decode import DecodeError, decode

_LONGEST = 65535  # side that the index holds
_LONGEST_JPEG = 65500  # side that libjpeg writes


@dataclass(frozen=True)
class Ready:
    """An image that was decoded once, and its size in pixels."""

    item: Item
    width: int
    height: int


@dataclass(frozen=True)
class Reject:
    """An image that was left out, and why."""

    key: str
    name: str
    reason: str


def prepared(
    source: Source, order: npt.NDArray[np.int64], short: int | None, quality: int, threads: int | None
) -> Iterator[Ready | Reject]:
    """Read and decode images in a few threads; yield them in the given order, not far ahead of the writer."""
    workers = threads or min(16, os.cpu_count() or 1)
    return ordered_map(lambda i: _prepare(source, int(i), short, quality), order, workers, ahead=4 * workers)


def _prepare(source: Source, i: int, short: int | None, quality: int) -> Ready | Reject:
    key = source.key(i)
    try:
        item = source.read(i)
    except (OSError, ValueError, MemoryError) as error:
        return Reject(key, name_of(source, i), _reason(error))
    try:
        return _reduced(item, short, quality)
    # Codecs raise errors of every type: each costs one image, never the whole pack.
    except Exception as error:
        return Reject(key, item.name, _reason(error))


def _reduced(item: Item, short: int | None, quality: int) -> Ready:
    """Decode an image, and reduce it if its shorter side is longer than `short`; raise the error that rejects it."""
    pixels = decode(item.data)
    height, width = pixels.shape[:2]
    if short is not None and min(height, width) > short:
        scale = short / min(height, width)
        width, height = max(short, round(width * scale)), max(short, round(height * scale))
        if max(height, width) > _LONGEST_JPEG:
            raise DecodeError(f"{width} x {height} pixels when reduced: a side of a JPEG has at most {_LONGEST_JPEG}")
        reduced = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(reduced), quality=quality, colorspace="RGB")
        item = replace(item, data=data, extension="jpg")
    if max(height, width) > _LONGEST:
        raise DecodeError(f"{width} x {height} pixels: a side is longer than {_LONGEST}")
    return Ready(item, width, height)


def _reason(error: Exception) -> str:
    """Return why an image was left out, in the same words on every machine: without a path of this one."""
    if isinstance(error, OSError):
        if error.errno in (errno.EMFILE, errno.ENFILE):
            remedy = of_machine(error, "pack")
            raise UserError(remedy.words if remedy else str(error)) from error
        return error.strerror or type(error).__name__
    if isinstance(error, DecodeError | ValueError):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}".rstrip(": ")
