"""Encoded image to pixels: simplejpeg for JPEG, Pillow for every other format.

Decisions: the EXIF orientation is applied, so that a view is the picture as a person sees it. ImageFolder ignores it.
    Damaged metadata is left out and never spoils the pixels. An alpha channel is dropped, not composited, as
    `convert("RGB")` does in ImageFolder. The first picture of an animation or of a file of several pages is taken. Grey
    of 12 or 16 bits keeps its high byte.
"""

import io
import warnings

import numpy as np
import numpy.typing as npt
import PIL.Image
import simplejpeg

from hardviews.views.formats import formats
from hardviews.views.metadata import orientation, without_metadata

# Damaged metadata is left out here, so Pillow's remarks about it would only confuse.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATION = 0x0112
# Pillow's own bound against decompression bombs is twice this; the header of a JPEG may claim 12 GB.
_MOST_PIXELS = 1 << 27

_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """The bytes are not a decodable image; the message is the reason."""


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode bytes to uint8 RGB (H, W, 3), contiguous and writable; raise DecodeError, and nothing else.

    If libjpeg warns about a JPEG, Pillow decodes it: Pillow accepts stray bytes but not a cut file.
    """
    if data[:2] == b"\xff\xd8" and _jpeg_orientation(data) == 1:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
            _check_size(width, height)
            pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
            return pixels
        except DecodeError:
            raise
        except Exception:  # for example KeyError for an unusual kind of JPEG: Pillow decides
            pass
    return _decode_any(data)


def _decode_any(data: bytes) -> npt.NDArray[np.uint8]:
    if not data:
        raise DecodeError("no bytes")
    try:
        return _by_pillow(data, data)
    except DecodeError:
        raise
    # Pillow's plugins raise every type of error for a malformed field: OSError, SyntaxError, struct.error...
    except Exception as error:
        first = error
    try:
        bare = without_metadata(data)
        if bare is not None:
            return _by_pillow(bare, data)
    except Exception:  # the pixels are damaged too, and the first error is the reason
        pass
    if isinstance(first, PIL.UnidentifiedImageError):
        raise DecodeError("no known image format") from first
    raise DecodeError(f"{type(first).__name__}: {first}") from first


def _by_pillow(data: bytes, original: bytes) -> npt.NDArray[np.uint8]:
    """Decode and turn upright; `original` has the metadata of `data`."""
    with PIL.Image.open(io.BytesIO(data), formats=formats()) as image:
        _check_size(*image.size)
        image.load()
        turn = orientation(original)
        if data is original:
            turn = _orientation_of(image, turn)
        elif image.format == "TIFF":
            turn = 1  # Pillow turns these formats while it loads them
        rgb = _to_rgb(image)
        return np.array(rgb.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else rgb, dtype=np.uint8)


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    grey = _deep_grey(image)
    if grey is not None:
        return PIL.Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise DecodeError(f"32-bit pixels (Pillow mode {image.mode}), whose range is unknown")
    if image.mode in ("P", "PA"):
        # By way of RGBA, since Pillow warns otherwise if the palette has transparency.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: PIL.Image.Image) -> npt.NDArray[np.uint8] | None:
    """Return the high byte of a grey picture of 9 to 16 bits, None for other pictures.

    Pillow's mode is the type that holds the numbers, which may have more bits than the file.
    """
    bits, signed, inverted = 16 if image.mode.startswith("I;16") else 32, False, False
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, signed, inverted = tags.get(258, (1,))[0], tags.get(339, (1,))[0] == 2, tags.get(262) == 0
    elif image.format == "PPM" and image.mode == "I":
        bits = 16  # for any depth in the file: Pillow scales
    if not image.mode.startswith("I") or not 8 < bits <= 16:
        return None
    numbers = np.asarray(image).astype(np.int32)
    if signed:
        numbers += 1 << (bits - 1)
    high = np.clip(numbers >> (bits - 8), 0, 255)
    grey: npt.NDArray[np.uint8] = (255 - high if inverted else high).astype(np.uint8)
    return grey


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise DecodeError(f"{width} x {height} pixels: more than {_MOST_PIXELS}")


def _jpeg_orientation(data: bytes) -> int:
    # To read EXIF costs as much as a small decode, and most images have none: look for the marker first.
    if b"Exif\0\0" not in data[: 1 << 16]:
        return 1
    fallback = orientation(data)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return _orientation_of(image, fallback)
    except Exception:
        return fallback


def _orientation_of(image: PIL.Image.Image, fallback: int) -> int:
    """Return the orientation that Pillow finds, possibly in XMP, or `fallback` if it fails."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in _UPRIGHT else 1
    except Exception:
        return fallback
