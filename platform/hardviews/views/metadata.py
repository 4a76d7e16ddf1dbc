"""Image files without their metadata, for files whose metadata is damaged and whose pixels are whole.

Everything that the pixels depend on is kept: a file with damaged pixels stays damaged.
"""

import re
import struct
from collections.abc import Iterator

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_ORIENTATION, _SHORT = 0x0112, 3
# JPEG: application data and comments, except JFIF (APP0) and Adobe (APP14), which define the colours.
_JPEG_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
_START_OF_SCAN = 0xDA
_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_FLAGS = 0x20 | 0x08 | 0x04  # flags of VP8X: a colour profile, EXIF and XMP follow
# Tags of TIFF about the storage of pixels, and the orientation of the picture.
_TIFF_PIXELS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, _ORIENTATION, 277, 278, 279, 284, 292, 293, 317, 320}
    | {322, 323, 324, 325, 332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532}
)


def without_metadata(data: bytes) -> bytes | None:
    """Return a JPEG, PNG, WebP or TIFF file without metadata, None for other formats.

    The orientation is left out too, except for a TIFF file.
    """
    if data.startswith((b"II", b"MM")):
        return _bare_tiff(data)
    if data.startswith(_JPEG):
        return _JPEG + b"".join(part for kind, part, _ in _jpeg_parts(data) if kind not in _JPEG_METADATA)
    if data.startswith(_PNG):
        # Chunks that are needed for the pixels begin with a capital letter.
        return _PNG + b"".join(part for kind, part, _ in _png_parts(data) if kind[:1].isupper())
    if _is_webp(data):
        return _bare_webp(data)
    return None


def orientation(data: bytes) -> int:
    """Return the EXIF orientation (1 to 8) of a JPEG, PNG or WebP file, 1 if it cannot be found.

    It reads this one tag only, so damage elsewhere in the metadata does not matter.
    """
    parts: Iterator[tuple[object, bytes, bytes]] = iter(())
    if data.startswith(_JPEG):
        parts = ((kind, p, body) for kind, p, body in _jpeg_parts(data) if kind == 0xE1 and body.startswith(_EXIF))
    elif data.startswith(_PNG):
        parts = ((kind, p, body) for kind, p, body in _png_parts(data) if kind == b"eXIf")
    elif _is_webp(data):
        parts = ((kind, p, body) for kind, p, body in _webp_parts(data) if kind == b"EXIF")
    for _, _, body in parts:
        return _tagged(body.removeprefix(_EXIF))
    return 1


def _tagged(exif: bytes) -> int:
    """Return the orientation in an EXIF block, which is a small TIFF file."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", exif, 4)
    for at in range(start + 2, len(exif) - 11, 12):
        if at >= start + 2 + 12 * struct.unpack_from(order + "H", exif, start)[0]:
            break
        tag, kind = struct.unpack_from(order + "HH", exif, at)
        if (tag, kind) == (_ORIENTATION, _SHORT):
            value: int = struct.unpack_from(order + "H", exif, at + 8)[0]
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg_parts(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, all bytes and content of each segment of a JPEG file; from the first scan on, as one part."""
    at = len(_JPEG)
    while marker := re.compile(rb"\xff+([^\xff])").match(data, at):
        kind, start = marker[1][0], marker.end()
        length = int.from_bytes(data[start : start + 2], "big")
        if kind == _START_OF_SCAN or length < 2 or start + length > len(data):
            break
        yield kind, data[at : start + length], data[start + 2 : start + length]
        at = start + length
    yield _START_OF_SCAN, data[at:], b""


def _png_parts(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield name, all bytes and content of each chunk of a PNG file; the last one may be cut."""
    at = len(_PNG)
    while at < len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield kind, data[at : at + 12 + length], data[at + 8 : at + 8 + length]
        at += 12 + length


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_parts(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield name, all bytes and content of each chunk of a WebP file; the last one may be cut."""
    at = 12
    while at < len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4]
        yield kind, data[at : at + 8 + length + length % 2], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _bare_webp(data: bytes) -> bytes:
    kept = []
    for kind, part, body in _webp_parts(data):
        if kind not in _WEBP_PIXELS:
            continue
        if kind == b"VP8X" and body:
            part = part[:8] + bytes([body[0] & ~_WEBP_FLAGS]) + body[1:]
        kept.append(part)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bare_tiff(data: bytes) -> bytes | None:
    """Shorten the first table of tags in its place, so that every offset in the file stays valid."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")  # BigTIFF: 64-bit offsets
    count_form, offset_form, entry_size = ("Q", "Q", 20) if big else ("H", "I", 12)
    count_size, offset_size = struct.calcsize(count_form), struct.calcsize(offset_form)
    try:
        (start,) = struct.unpack_from(order + offset_form, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_form, data, start)
    except (struct.error, OverflowError):  # the offset is outside of the file
        return None
    first = start + count_size
    stop = first + count * entry_size
    if stop > len(data):
        return None
    entries = [data[at : at + entry_size] for at in range(first, stop, entry_size)]
    kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in _TIFF_PIXELS]
    table = struct.pack(order + count_form, len(kept)) + b"".join(kept) + bytes(offset_size)
    return data[:start] + table + data[start + len(table) :]
