"""Image formats that are read, and their file extensions."""

from functools import cache

import PIL.Image

# Page descriptions that call other programs, films, and tables of measurements: Pillow registers them too.
_NOT_PICTURES = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS", "IPTC"})
# A JPEG file with further pictures in it, opened by the reader of JPEG.
_WITHIN_JPEG = "MPO"


@cache
def formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read, in the order in which Pillow tries them."""
    known = set(extensions().values())
    return tuple(name for name in PIL.Image.ID if name in known)


@cache
def extensions() -> dict[str, str]:
    """Return the format of each file extension that is read; extensions are in lower case, without the dot."""
    readable = PIL.Image.registered_extensions()  # this also loads all readers
    return {
        extension.lstrip("."): name
        for extension, name in readable.items()
        if (name in PIL.Image.OPEN or name == _WITHIN_JPEG) and name not in _NOT_PICTURES
    }


def usual_extension(extension: str) -> str:
    """Return the extension that other readers of shards expect for the format: jpg for jpeg, jfif, jpe and mpo."""
    extension = extension.lower()
    return {"JPEG": "jpg", _WITHIN_JPEG: "jpg", "PNG": "png"}.get(extensions().get(extension, ""), extension)
