"""Decoding: every format comes out as RGB bytes, whatever is no image says so."""

import contextlib
import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardviews.views import decode as module
from hardviews.views.decode import DecodeError, decode

Y, X = np.mgrid[0:48, 0:64]
PICTURE = np.stack([4 * X, 5 * Y, 255 - 2 * X - 2 * Y], axis=-1).astype(np.uint8)
RGB = PIL.Image.fromarray(PICTURE)
GREY = np.asarray(RGB.convert("L"))


def encode(image: PIL.Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


JPEG = encode(RGB, "JPEG", quality=95)


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


def test_pixels_of_unknown_range_are_refused():
    with pytest.raises(DecodeError, match="32-bit"):
        decode(encode(PIL.Image.fromarray(GREY.astype(np.float32)), "TIFF"))


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
