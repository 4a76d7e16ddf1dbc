"""Some images of a source, chosen by a file with a key a line."""

import os
from collections.abc import Sequence

from hardviews.data.source import Source, Subset, path_of
from hardviews.errors import UserError

_SHOWN = 3


def read_keys(path: str, option: str = "keys") -> list[str]:
    """Return the lines of a file of keys, without empty ones.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    try:
        with open(os.path.expanduser(path), encoding="utf-8", errors="surrogateescape") as stream:
            keys = [line.strip() for line in stream if line.strip()]
    except OSError as error:
        raise UserError(f"The file of {option} {path!r} cannot be read: {error.strerror}.") from error
    if not keys:
        raise UserError(f"The file of {option} {path!r} is empty. Write the key of an image on each line.")
    return keys


def chosen(source: Source, keys: Sequence[str], where: str) -> Subset:
    """Return the images that keys name, in the order of the source.

    A key is the key in the packed data set, or the end of the path of the image's file: `a/abbey/sun_1.jpg` or only
    `sun_1.jpg`. `where` is the file of the keys, for the message.

    Raises:
        UserError: a key does not name exactly one image.
    """
    return Subset(source, tuple(sorted(_places(source, keys, where))))


def rest(source: Source, *taken: Subset) -> Subset:
    """Return the images of a source that none of its subsets has."""
    gone = {i for subset in taken for i in subset.chosen}
    return Subset(source, tuple(i for i in range(len(source)) if i not in gone))


def _places(source: Source, keys: Sequence[str], where: str) -> set[int]:
    by_key = {source.key(i): i for i in range(len(source))}
    found: set[int] = set()
    missing: list[str] = []
    of_length: dict[int, dict[str, list[int]]] = {}
    for key in keys:
        if key in by_key:
            found.add(by_key[key])
            continue
        end = key.removeprefix("./").strip("/")
        length = end.count("/") + 1
        if length not in of_length:
            of_length[length] = _by_end(source, length)
        named = of_length[length].get(end, [])
        if len(named) > 1:
            raise UserError(
                f"The key {key!r} in {where!r} names {len(named)} images, for example {path_of(source, named[0])!r} "
                f"and {path_of(source, named[1])!r}. Write more of the path."
            )
        found.update(named)
        missing += [key] if not named else []
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(keys)} keys in {where!r} name no image: {', '.join(missing[:_SHOWN])}. An "
            f"image is named by its key, such as {source.key(0)!r}, or by the end of the path of its file."
        )
    return found


def _by_end(source: Source, length: int) -> dict[str, list[int]]:
    """Return the images by the last parts of their paths."""
    found: dict[str, list[int]] = {}
    for i in range(len(source)):
        parts = path_of(source, i).replace(os.sep, "/").split("/")
        found.setdefault("/".join(parts[-length:]), []).append(i)
    return found
