"""The place of the encoder in a file: by the given layout, or by the layout that fits."""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hardviews.errors import UserError
from hardviews.foreign.contents import Contents
from hardviews.foreign.layouts import LAYOUTS, Layout, Place, layout_named
from hardviews.foreign.torchvision_names import as_timm

_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
# The first layer of a ResNet, of one with a deep stem, and of a vision transformer.
_FIRST = ("conv1.weight", "conv1.0.weight", "patch_embed.proj.weight")


@dataclass(frozen=True, eq=False)
class Found:
    """An encoder in a file.

    Attributes:
        layout: layout of the file.
        place: place of the encoder.
        weights: tensors by timm's names.
        names: names in the file by timm's names.
    """

    layout: Layout
    place: Place
    weights: Mapping[str, Tensor]
    names: Mapping[str, str]


def plain(name: str) -> str:
    """Return a weight's name without the prefixes of DataParallel and of torch.compile."""
    return _WRAPPERS.sub("", name)


def find(contents: Contents, layout: str | None, part: str | None, known: Container[str] = ()) -> Found:
    """Return the encoder in a file.

    `layout`, `part`: names; None for those that fit. `known`: names of the weights of the network that is wanted, if it
    is named; without it a ResNet or a vision transformer is expected.

    Raises:
        UserError: there is none. The message names the layouts that fit.
    """
    if layout is not None:
        named = layout_named(layout)
        _check_part(named, part)
        found = _within(contents, named, part, known)
        if found is not None:
            return found
        raise UserError(_misfit(contents, named, part, known))
    for candidate in _candidates(contents):
        found = _within(contents, candidate, part, known)
        if found is not None:
            return found
    fitting = [one for one in _candidates(contents) if _within(contents, one, None, known) is not None]
    if part is not None and fitting:
        raise UserError(f"{contents.file} has the layout {fitting[0].name}, which has {_parts(fitting[0])}: no {part}.")
    raise UserError(
        f"No encoder was found in {contents.file}: none of the known layouts fits. It holds {_outline(contents)}. "
        "Convert it to the names of torchvision or timm, or see docs/import.md for the layouts."
    )


def _candidates(contents: Contents) -> list[Layout]:
    """Return the layouts that the names in a file may belong to, the most particular first."""
    names = [*_names(contents)]
    return [one for one in LAYOUTS if one.sign and any(re.match(one.sign, name) for name in names)]


def _within(contents: Contents, layout: Layout, part: str | None, known: Container[str]) -> Found | None:
    for place in layout.places:
        state = contents.state(place.entry)
        if state is None or part not in (None, place.part):
            continue
        names = {
            as_timm(plain(name)[len(place.prefix) :]): name
            for name, value in state.items()
            if isinstance(name, str) and isinstance(value, Tensor) and plain(name).startswith(place.prefix)
        }
        if any(name in known for name in names) if known else any(name in names for name in _FIRST):
            return Found(layout, place, {ours: state[theirs] for ours, theirs in names.items()}, names)
    return None


def _check_part(layout: Layout, part: str | None) -> None:
    if part is not None and part not in {place.part for place in layout.places}:
        raise UserError(f"--part {part}: the layout {layout.name} has {_parts(layout)}. Choose one, or leave it out.")


def _parts(layout: Layout) -> str:
    parts = list(dict.fromkeys(place.part for place in layout.places))
    return f"the part{'s' if len(parts) > 1 else ''} {', '.join(parts)}"


def _misfit(contents: Contents, layout: Layout, part: str | None, known: Container[str]) -> str:
    wanted = dict.fromkeys(
        f"{place.prefix or 'conv1.'}* in {'.'.join(place.entry) or 'the file itself'}"
        for place in layout.places
        if part in (None, place.part)
    )
    fitting = [one.name for one in _candidates(contents) if _within(contents, one, None, known) is not None]
    if _within(contents, layout, None, known) is not None:
        remedy = "Another part of the layout is there: leave --part out."
    elif fitting:
        remedy = f"It fits --layout {fitting[0]}."
    else:
        remedy = "No other layout fits it either. See docs/import.md for the layouts."
    return (
        f"{contents.file} does not have the layout {layout.name}: an encoder was looked for as {', or '.join(wanted)}. "
        f"It holds {_outline(contents)}. {remedy}"
    )


def _names(contents: Contents) -> Iterator[str]:
    """Yield the names of all tensors and of the entries at the top, each with its entry before it."""
    yield from contents.held
    for path, state in states(contents.held):
        for name in state:
            yield ".".join((*path, plain(str(name))))


def states(held: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield every mapping with tensors in a file, with the path to it."""
    if any(isinstance(value, Tensor) for value in held.values()):
        yield path, held
    for name, value in held.items():
        if isinstance(value, Mapping):
            yield from states(value, (*path, str(name)))


def _outline(contents: Contents) -> str:
    """Return a file's content in a few words: its state dicts, and their names by the first two words."""
    parts = []
    for path, state in states(contents.held):
        heads = Counter(_head(str(name)) for name, value in state.items() if isinstance(value, Tensor))
        shown = ", ".join(f"{head} ({count})" for head, count in heads.most_common(4))
        parts.append(f"{'.'.join(path) or 'tensors'} with {shown}{' and others' if len(heads) > 4 else ''}")
    return _listed(parts)


def _listed(parts: Sequence[str]) -> str:
    return "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more state dicts" if len(parts) > 3 else "")


def _head(name: str) -> str:
    words = name.split(".")
    count = 2 if words[0] in ("module", "_orig_mod") and len(words) > 2 else 1
    return ".".join(words[:count]) + (".*" if len(words) > count else "")
