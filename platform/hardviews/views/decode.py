"""Encoded image to pixels: simplejpeg for JPEG, Pillow for whatever else.

Decisions: the EXIF orientation is applied, so that a view is the picture as a person sees it (ImageFolder
ignores it); an alpha channel is dropped, not composited, as `convert("RGB")` does in ImageFolder; of an
animation the first frame is taken; 16-bit grey keeps its high byte.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import simplejpeg

_ORIENTATION = 0x0112
# Pillow's own bound against decompression bombs is twice this; a JPEG header may promise 12 GB.
_MOST_PIXELS = 1 << 27


class DecodeError(Exception):
    """The bytes are no image that can be decoded; the message is the reason."""


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Encoded bytes to uint8 RGB (H, W, 3), contiguous and writable; raises DecodeError.

    A JPEG that libjpeg warns about goes to Pillow, which forgives stray bytes but not a cut file.
    """
    if data[:2] == b"\xff\xd8" and _orientation(data) == 1:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            _check_size(width, height)
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
            return pixels
        except ValueError:
            pass
    return _decode_any(data)


def _decode_any(data: bytes) -> npt.NDArray[np.uint8]:
    if not data:
        raise DecodeError("no bytes")
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            _check_size(*image.size)
            upright = PIL.ImageOps.exif_transpose(image)
            return np.array(_to_rgb(upright), dtype=np.uint8)
    except PIL.UnidentifiedImageError as error:
        raise DecodeError("no known image format") from error
    except DecodeError:
        raise
    # Pillow's plugins raise whatever a malformed field leads to: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DecodeError(f"32-bit pixels (Pillow mode {image.mode}), whose range is unknown")
    if image.mode in ("P", "PA"):
        # Straight to RGB, Pillow warns when the palette has transparency.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise DecodeError(f"{width} x {height} pixels: more than {_MOST_PIXELS}")


def _orientation(data: bytes) -> int:
    # Reading EXIF costs as much as a small decode, and most images carry none: look for the marker first.
    if b"Exif\0\0" not in data[: 1 << 16]:
        return 1
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1
