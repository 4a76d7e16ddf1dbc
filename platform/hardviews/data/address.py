"""The address of a data set that is not packed yet: a folder, a list file, or `torchvision:NAME?key=value&...`."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

from hardviews.data.given import Given
from hardviews.data.index import INDEX_NAME
from hardviews.data.list_file import is_list
from hardviews.data.torchvision_options import check_torchvision, names_part
from hardviews.errors import UserError
from hardviews.storage.url import cache_folder, local_path

TORCHVISION = "torchvision:"
_TEST = "test."


def is_unpacked(address: str) -> bool:
    """Return whether an address names images of this machine that have to be packed before they are read."""
    if address.startswith(TORCHVISION):
        return True
    place = _place_and_options(address)[0]
    path = local_path(place)
    if path is None:
        return False
    if os.path.isdir(path):
        return not any(_holds_shards(os.path.join(path, part)) for part in ("", "train", "test"))
    return is_list(path)


def read_address(address: str) -> Given:
    """Return the data set that an address names.

    Raises:
        UserError: an option is not known, or no class of torchvision has that name.
    """
    place, text = _place_and_options(address)
    options: dict[str, str] = {}
    test_options: dict[str, str] = {}
    for key, value in _pairs(address, text):
        (test_options if key.startswith(_TEST) else options)[key.removeprefix(_TEST)] = value
    keys, test_keys = options.pop("keys", None), test_options.pop("keys", None)
    if not address.startswith(TORCHVISION):
        if unknown := [*options, *test_options]:
            raise UserError(f"{address!r}: {unknown[0]!r} is not an option of a folder or a list; `keys` is one.")
        return Given(local_path(place) or place, keys=keys, test_keys=test_keys)
    name = place.removeprefix(TORCHVISION)
    check_torchvision(name)
    root = options.pop("root", None) or os.path.join(cache_folder(), "torchvision")
    download = options.pop("download", "no").lower() in ("yes", "true", "1")
    remedy = "add download=yes to its address"
    return Given(root, name, options, test_options, None, keys, test_keys, download, remedy=remedy)


def name_of_address(address: str) -> str:
    """Return a short name for people: the last part of a path, or the class of torchvision, as in `DTD` and `DTD.2`.

    Options that do not name a part stand behind the dot.
    """
    if address.startswith(TORCHVISION):
        given = read_address(address)
        kind = str(given.torchvision)
        return ".".join([kind, *(value for key, value in given.options.items() if not names_part(kind, {key: value}))])
    place = _place_and_options(address)[0].rstrip("/")
    name = place.rpartition("/")[2]
    return os.path.splitext(name)[0] if is_list(place) else name


def _holds_shards(folder: str) -> bool:
    """Return whether a folder is a packed data set, or one whose packing was interrupted."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(name == INDEX_NAME or re.fullmatch(r"shard-\d+\.tar|\.packing-.*", name) for name in names)


def _place_and_options(address: str) -> tuple[str, str]:
    """Divide an address at its question mark, unless there is a file of that very name."""
    if "?" not in address or "://" in address or (not address.startswith(TORCHVISION) and os.path.exists(address)):
        return address, ""
    place, _, options = address.partition("?")
    return place, options


def _pairs(address: str, text: str) -> Iterator[tuple[str, str]]:
    for part in text.split("&") if text else ():
        key, sign, value = part.partition("=")
        if not sign or not value:
            raise UserError(
                f"{address!r}: {part!r} is not an option. Write key=value, for example torchvision:DTD?partition=2"
            )
        yield key, unquote(value)
