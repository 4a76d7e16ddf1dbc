"""Decoding: every format comes out as RGB bytes, whatever is no image says so."""

import contextlib
import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views import decode as module
from hardviews.views.decode import DecodeError, decode
from hardviews.views.formats import extensions, formats, usual_extension

Y, X = np.mgrid[0:48, 0:64]
PICTURE = np.stack([4 * X, 5 * Y, 255 - 2 * X - 2 * Y], axis=-1).astype(np.uint8)
RGB = PIL.Image.fromarray(PICTURE)
GREY = np.asarray(RGB.convert("L"))


def encode(image: PIL.Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


JPEG = encode(RGB, "JPEG", quality=95)
ERRORS = [
    KeyError(6),
    struct.error("cut"),
    SyntaxError(),
    MemoryError(),
    RecursionError(),
    ZeroDivisionError(),
    OSError(5),
]


def failing(error: Exception) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (JPEG, 3),
        (encode(RGB, "JPEG", progressive=True, quality=95), 3),
        (encode(RGB.convert("CMYK"), "JPEG", quality=95), 6),
        (encode(RGB, "PNG"), 0),
        (encode(RGB.convert("RGBA"), "PNG"), 0),
        (encode(RGB, "WEBP", lossless=True), 0),
        (encode(RGB, "TIFF"), 0),
        (encode(RGB, "BMP"), 0),
        (encode(RGB.quantize(256), "PNG"), 8),
        (JPEG + b"stray bytes", 3),
    ],
    ids=["jpeg", "progressive", "cmyk", "png", "alpha", "webp", "tiff", "bmp", "palette", "stray"],
)
def test_colour(data, tolerance):
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    assert pixels.shape == PICTURE.shape
    assert np.abs(pixels.astype(int) - PICTURE).mean() <= tolerance


@pytest.mark.parametrize(
    "data",
    [
        encode(RGB.convert("L"), "PNG"),
        encode(RGB.convert("L"), "JPEG", quality=95),
        encode(RGB.convert("LA"), "PNG"),
        encode(PIL.Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
    ],
    ids=["png", "jpeg", "alpha", "16 bit"],
)
def test_grey_becomes_three_equal_channels(data):
    pixels = decode(data)
    assert pixels.shape == PICTURE.shape and np.ptp(pixels, axis=-1).max() == 0
    assert np.abs(pixels[..., 0].astype(int) - GREY).mean() <= 1


DEEP = GREY.astype(np.uint16) << 8 | 0x80  # 16 bits; the high byte is the grey


def tiff(bits: int, pixels: bytes, *, form: int = 1, photometric: int = 1) -> bytes:
    """An uncompressed little-endian TIFF file of one channel; form 2 is signed, photometric 0 white for zero."""
    height, width = GREY.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(pixels)), (339, form)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + table + bytes(4)


def twelve_bits(numbers: np.ndarray) -> bytes:
    first, second = numbers.reshape(-1, 2).T.astype(int)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encode(PIL.Image.fromarray(DEEP), "PNG"),
        encode(PIL.Image.fromarray(DEEP), "TIFF"),
        encode(PIL.Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
        encode(PIL.Image.fromarray(DEEP), "JPEG2000", irreversible=False),
        b"P5 64 48 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P5 64 48 4095\n" + (DEEP >> 4).astype(">u2").tobytes(),
        b"P2 64 48 65535\n" + b" ".join(b"%d" % number for number in DEEP.ravel()),
        b"P6 64 48 65535\n" + np.repeat(DEEP[..., None], 3, axis=2).astype(">u2").tobytes(),
        tiff(12, twelve_bits(DEEP >> 4)),
        tiff(16, (DEEP.astype(np.int32) - 32768).astype("<i2").tobytes(), form=2),
        tiff(16, (65535 - DEEP).astype("<u2").tobytes(), photometric=0),
    ],
    ids=["png", "tiff", "lzw", "jp2", "pgm", "pgm of 12", "plain", "ppm", "tiff of 12", "signed", "white is zero"],
)
def test_deep_pixels_keep_their_high_byte(data):
    pixels = decode(data)
    assert np.ptp(pixels, axis=-1).max() == 0
    assert np.abs(pixels[..., 0].astype(int) - GREY).max() <= 1


def jpeg_441() -> bytes:
    """A JPEG of one colour whose luma has 1 x 4 samples, which libjpeg's fast interface has no name for."""
    written = cv2.imencode(".jpg", np.full((64, 64, 3), (40, 120, 200), np.uint8), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                                                                                    0x411111])[1]  # fmt: skip
    data = bytearray(written.tobytes())
    data[data.find(b"\xff\xc0") + 11] = 0x14
    return bytes(data)


def test_unusual_chroma_is_read():
    pixels = decode(jpeg_441())
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels.astype(int) - (200, 120, 40)).max() <= 3


@pytest.mark.parametrize("error", ERRORS)
def test_any_error_of_simplejpeg_leads_to_pillow(error, monkeypatch):
    monkeypatch.setattr(module.simplejpeg, "decode_jpeg_header", failing(error))
    assert np.abs(decode(JPEG).astype(int) - PICTURE).mean() <= 3


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", ["open", "Image.convert", "Image.getexif"])
def test_any_error_of_pillow_is_a_reason(error, step, monkeypatch):
    monkeypatch.setattr(f"PIL.Image.{step}", failing(error))
    data = encode(RGB, "PNG")
    if step == "Image.getexif":
        assert np.array_equal(decode(data), PICTURE), "metadata costs no pixels"
        return
    with pytest.raises(DecodeError) as raised:
        decode(data)
    assert type(error).__name__ in str(raised.value)


def test_formats_of_documents_are_not_opened(monkeypatch):
    """A page description would start another program."""
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile.load", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DecodeError, match="no known image format"):
        decode(encode(RGB, "EPS"))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_pictures_the_first_is_taken(format):
    other = PIL.Image.new("RGB", RGB.size)
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = decode(encode(RGB, format, save_all=True, append_images=[other], **options))
    assert np.abs(pixels.astype(int) - PICTURE).mean() <= (8 if format == "GIF" else 0)


def test_extensions_are_those_of_pictures_that_pillow_reads():
    known = {
        "jpg",
        "jpeg",
        "jfif",
        "jpe",
        "mpo",
        "png",
        "apng",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "webp",
        "avif",
        "jp2",
        "ppm",
    }
    assert known | {"pgm", "pbm", "tga", "ico"} <= set(extensions())
    assert not {"pdf", "eps", "ps", "mpg", "h5", "wmf", "txt", ""} & set(extensions())
    assert set(extensions().values()) <= {*formats(), "MPO"}
    assert [usual_extension(e) for e in ("JPEG", "jfif", "mpo", "apng", "tif", "avif")] == [
        "jpg", "jpg", "jpg", "png", "tif", "avif"]  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_the_picture_is_upright(orientation, format):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encode(RGB, format, exif=exif.tobytes(), **({"quality": 95} if format == "JPEG" else {})))
    turned = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, -1),
        7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(PICTURE),
    }[orientation]
    assert pixels.shape == turned.shape
    assert np.abs(pixels.astype(int) - turned).mean() < 4


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", JPEG[:100], JPEG[:-200], b"\xff\xd8", encode(RGB, "PNG")[:-200]],
    ids=["empty", "text", "head", "cut", "marker", "cut png"],
)
def test_no_image_is_a_decode_error(data):
    with pytest.raises(DecodeError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        encode(PIL.Image.fromarray(GREY.astype(np.float32)), "TIFF"),
        encode(PIL.Image.fromarray(GREY.astype(np.int32)), "TIFF"),
        tiff(32, GREY.astype("<u4").tobytes()),
    ],
    ids=["float", "int", "unsigned"],
)
def test_pixels_of_unknown_range_are_refused(data):
    with pytest.raises(DecodeError, match="32-bit"):
        decode(data)


def test_an_image_too_large_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(module, "_MOST_PIXELS", 1000)
    for format in ("JPEG", "PNG"):
        with pytest.raises(DecodeError, match="64 x 48"):
            decode(encode(RGB, format))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([JPEG, encode(RGB, "PNG"), encode(RGB, "GIF"), encode(RGB, "TIFF")]), st.data())
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_decode_or_raise_decode_error(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        assert decode(bytes(damaged)).shape[-1] == 3
