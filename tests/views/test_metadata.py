"""Damaged metadata never costs the pixels; damaged pixels stay damaged."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views.decode import DecodeError, decode
from hardviews.views.metadata import orientation, without_metadata

Y, X = np.mgrid[0:40, 0:56]
PICTURE = np.stack([4 * X, 6 * Y, 250 - 2 * X - 2 * Y], axis=-1).astype(np.uint8)
TURNED = np.rot90(PICTURE, -1)
IMAGE = PIL.Image.fromarray(PICTURE)
SIX = (0x0112, 3, 1, struct.pack("<H", 6))  # to be turned by 90 degrees
BROKEN_ENTRIES = {
    "resolution of minus one": (0x011A, 10, 1, struct.pack("<ii", -1, 0)),
    "negative offset of GPS data": (0x8825, 9, 1, struct.pack("<i", -5)),
    "EXIF data beyond the end": (0x8769, 4, 1, struct.pack("<I", 1 << 30)),
    "four thousand million letters": (0x010F, 2, 0xFFFFFFFF, struct.pack("<I", 8)),
    "an unknown type": (0x0110, 99, 1, b"abcd"),
    "a fraction of nothing": (0x011B, 5, 1, struct.pack("<II", 0, 0)),
}


def encode(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, format, **options)
    return buffer.getvalue()


def table(*entries: tuple[int, int, int, bytes], start: int = 8) -> bytes:
    """Tags of a little-endian TIFF file that begins `start` bytes earlier, with longer values behind them."""
    body, extra, at = b"", b"", start + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        if len(value) <= 4:
            body += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        else:
            body += struct.pack("<HHII", tag, kind, count, at + len(extra))
            extra += value
    return struct.pack("<H", len(entries)) + body + bytes(4) + extra


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + table(*entries)


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    plain = encode("JPEG", quality=95)
    packed = [b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments]
    return plain[:2] + b"".join(packed) + plain[2:]


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(*chunks: bytes) -> bytes:
    plain = encode("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]  # behind the header


def tiff(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An uncompressed TIFF file with further tags."""
    data = PICTURE.tobytes()
    start = 8 + len(data)
    number = struct.pack
    tags = [
        (256, 3, 1, number("<H", 56)),
        (257, 3, 1, number("<H", 40)),
        (258, 3, 3, number("<HHH", 8, 8, 8)),
        (259, 3, 1, number("<H", 1)),
        (262, 3, 1, number("<H", 2)),
        (273, 4, 1, number("<I", 8)),
        (277, 3, 1, number("<H", 3)),
        (278, 3, 1, number("<H", 40)),
        (279, 4, 1, number("<I", len(data))),
        *entries,
    ]
    return b"II*\0" + number("<I", start) + data + table(*sorted(tags), start=start)


def webp(**options: object) -> bytes:
    return encode("WEBP", lossless=True, **options)


def check(data: bytes, expected: np.ndarray, tolerance: float = 0) -> None:
    pixels = decode(data)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("broken", BROKEN_ENTRIES.values(), ids=BROKEN_ENTRIES.keys())
def test_the_orientation_is_found_beside_broken_exif(broken):
    block = exif(SIX, broken)
    check(jpeg((0xE1, block)), TURNED, 4)
    check(png(chunk(b"eXIf", block[6:])), TURNED)
    check(webp(exif=block), TURNED)
    check(tiff(SIX, broken), TURNED)


@pytest.mark.parametrize("block", [b"Exif\0\0garbage!", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", exif(SIX)[:17]])
def test_exif_that_cannot_be_read_is_ignored(block):
    check(jpeg((0xE1, block)), PICTURE, 4)
    check(png(chunk(b"eXIf", block[6:])), PICTURE)
    check(webp(exif=block), PICTURE)


@pytest.mark.parametrize(
    "segment",
    [
        (0xE2, b"ICC_PROFILE\0\x05\x02nonsense"),
        (0xE2, b"MPF\0II*\0\xff\xff\xff\x7f"),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0<broken"),
        (0xE1, b""),
        (0xFE, b"\xff\xd8\xff"),
    ],
    ids=["icc", "mpf", "photoshop", "xmp", "empty", "comment"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_other_broken_metadata_of_jpeg(segment, turned):
    block = [(0xE1, exif(SIX))] if turned else []
    check(jpeg(*block, segment), TURNED if turned else PICTURE, 4)
    check(jpeg(segment, *block), TURNED if turned else PICTURE, 4)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"tEXt", b"Comment\0" + b"x" * 40, crc=1)],
        [chunk(b"iCCP", b"profile\0\0not compressed")],
        [chunk(b"iCCP", b"profile\0\x07")],
        [chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(PIL.PngImagePlugin.MAX_TEXT_CHUNK + 1)))],
        [chunk(b"pHYs", b"\0")],
        [chunk(b"iTXt", b"")],
        [chunk(b"gAMA", b"\0")],
        [chunk(b"cHRM", b"\0\0\0")],
        [chunk(b"acTL", b"\0")],
        [chunk(b"1234", b"not a name")],
    ],
    ids=["checksum", "icc", "icc method", "bomb", "resolution", "text", "gamma", "colours", "animation", "name"],
)
def test_other_broken_metadata_of_png(chunks):
    check(png(*chunks), PICTURE)
    check(png(chunk(b"eXIf", exif(SIX)[6:]), *chunks), TURNED)


def test_other_broken_metadata_of_webp_and_tiff():
    whole = webp(exif=exif(SIX), xmp=b"<x/>")
    cut = whole[:-3]  # in the metadata at the end
    check(cut, TURNED)
    check(tiff((700, 1, 1 << 20, struct.pack("<I", 8))), PICTURE)  # XMP
    check(tiff((34675, 7, 1 << 30, struct.pack("<I", 8))), PICTURE)  # a colour profile
    check(tiff((0x8769, 4, 1, struct.pack("<I", 9)), SIX), TURNED)
    check(tiff((0x014A, 4, 1, struct.pack("<I", 1 << 31))), PICTURE)  # further pictures


@pytest.mark.parametrize("data", [jpeg((0xE1, exif(SIX, BROKEN_ENTRIES["resolution of minus one"]))),
                                  png(chunk(b"tEXt", b"a\0b", crc=1)), webp(exif=b"Exif\0\0garbage!"),
                                  tiff((0x8825, 9, 1, struct.pack("<i", -5)))],
                         ids=["jpeg", "png", "webp", "tiff"])  # fmt: skip
@pytest.mark.parametrize("left", [0.3, 0.6, 0.8])
def test_a_cut_file_stays_cut(data, left):
    if data[:2] == b"II":  # the tags lie behind the pixels here: cut these away in the middle
        stop = 8 + PICTURE.nbytes
        start = int(stop * left)
        data = data[:4] + struct.pack("<I", start) + data[8:start] + table(*_shifted(data, stop), start=start)
        assert decode_fails(data)
        return
    assert decode_fails(data[: int(len(data) * left)])


def _shifted(data: bytes, at: int) -> list[tuple[int, int, int, bytes]]:
    (count,) = struct.unpack_from("<H", data, at)
    entries = [struct.unpack_from("<HHI4s", data, at + 2 + 12 * i) for i in range(count)]
    return [e if e[0] != 258 else (258, 3, 3, struct.pack("<HHH", 8, 8, 8)) for e in entries]


def decode_fails(data: bytes) -> bool:
    try:
        decode(data)
    except DecodeError:
        return True
    return False


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_file_without_metadata_has_the_same_pixels(format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(format, exif=exif(SIX), **options)
    bare = without_metadata(data)
    assert bare is not None and len(bare) <= len(data)
    expected = decode(encode(format, **options))
    np.testing.assert_array_equal(decode(bare), np.rot90(expected, -1) if format == "TIFF" else expected)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP", b"II*\0", b"MM\0*", b"II+\0"]),
       st.binary(max_size=80))  # fmt: skip
def test_any_bytes_are_taken(head, tail):
    without_metadata(head + tail)
    assert 1 <= orientation(head + tail) <= 8


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([jpeg((0xE1, exif(SIX))), png(chunk(b"eXIf", exif(SIX)[6:])), webp(exif=exif(SIX)), tiff(SIX)]),
       st.data())  # fmt: skip
def test_any_damage_is_an_image_or_a_reason(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, min(len(data) - 1, 300)))] = draw.draw(st.integers(0, 255))
    try:
        assert decode(bytes(damaged)).shape[-1] == 3
    except DecodeError as error:
        assert str(error)
