"""The content of a file besides the encoder, in groups: expected things such as heads, and unexpected ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hardviews.foreign.contents import Contents
from hardviews.foreign.find import Found, plain
from hardviews.foreign.layouts import Place

# Entries of a checkpoint that hold tensors, by their names.
_ENTRIES = (
    (r"(optim|lars)", "state of the optimizer"),
    (r"(fp16_scaler|scaler|amp)$", "state of the loss scaling"),
    (r"(model_ema|state_dict_ema|ema_model)", "momentum copy"),
    (r"(contrast|memory)", "memory bank"),
    (r"queue", "queue of keys"),
    (r"(heads?|neck|projector)$", "heads"),
    (r"\w*loss", "state of the loss"),
    (r"(lr_)?sched", "state of the schedule"),
    (r"(meters|hooks)$", "meters and hooks"),
    (r"\w*rng", "state of random numbers"),
)
_SETTINGS = "settings and counters"


@dataclass(frozen=True)
class Group:
    """Things in a file that are no weights of the encoder.

    Attributes:
        prefix: prefix of their names.
        count: how many they are.
        meaning: meaning of expected things; else empty.
        names: names in the file that belong to the encoder's own state dict.
    """

    prefix: str
    count: int
    meaning: str
    names: tuple[str, ...] = ()

    @property
    def expected(self) -> bool:
        """Whether a file of this layout has such things."""
        return bool(self.meaning)

    def text(self) -> str:
        """Return the group in a few words."""
        return f"{self.prefix} {self.count}{f' ({self.meaning})' if self.meaning else ''}"


def left_over(contents: Contents, found: Found, used: Mapping[str, Any]) -> list[Group]:
    """Return everything in a file that is not in the encoder. used: the encoder's weights, by timm's names."""
    entry = found.place.entry
    state = contents.state(entry)
    assert state is not None, "the encoder was found there"
    taken = {theirs for ours, theirs in found.names.items() if ours in used}
    groups: dict[tuple[str, str], list[str]] = {}
    for name in state:
        if name not in taken and isinstance(state[name], Tensor):
            groups.setdefault(_head(found, plain(str(name))), []).append(str(name))
    heads = [Group(prefix, len(names), meaning, tuple(names)) for (prefix, meaning), names in groups.items()]
    return [*heads, *_beside(contents.held, entry, found)]


def listed(groups: Sequence[Group]) -> list[str]:
    """Return groups in a few words each; settings and counters are one."""
    settings = [group.prefix for group in groups if group.meaning == _SETTINGS]
    texts = [group.text() for group in groups if group.meaning != _SETTINGS]
    return [*texts, f"{_SETTINGS} {len(settings)} ({', '.join(settings)})"] if settings else texts


def _head(found: Found, name: str) -> tuple[str, str]:
    """Return the prefix and the meaning of a weight that is not the encoder's."""
    for pattern, meaning in found.layout.heads:
        matched = re.match(pattern, name)
        if matched:
            return matched[0], meaning
    for place in found.layout.places:
        if place.entry == found.place.entry and place.prefix != found.place.prefix and name.startswith(place.prefix):
            return place.prefix, _another(place)
    return ".".join(name.split(".")[:2]), ""


def _beside(
    held: Mapping[str, Any], entry: tuple[str, ...], found: Found, path: tuple[str, ...] = ()
) -> Iterator[Group]:
    """Yield the entries on the way to the encoder's state dict that do not lead there."""
    for name, value in held.items():
        if entry and name == entry[0]:
            yield from _beside(value, entry[1:], found, (*path, str(name)))
        elif entry or not isinstance(value, Tensor):
            yield _entry((*path, str(name)), value, found)


def _entry(path: tuple[str, ...], value: Any, found: Found) -> Group:
    tensors, all_ = _count(value)
    meaning = next((meaning for pattern, meaning in _ENTRIES if re.match(pattern, path[-1])), "")
    others = [place for place in found.layout.places if place.entry == path and place.part != found.place.part]
    if others and tensors:
        meaning = _another(others[0])
    elif not meaning and not tensors:
        meaning = _SETTINGS
    return Group(".".join(path), all_, meaning)


def _another(place: Place) -> str:
    return f"another network, --part {place.part}"


def _count(value: Any) -> tuple[int, int]:
    """Return the number of tensors in a value, and the number of all its values."""
    if isinstance(value, Mapping):
        inner = [_count(one) for one in value.values()]
    elif isinstance(value, list | tuple | set):
        inner = [_count(one) for one in value]
    else:
        return int(isinstance(value, Tensor)), 1
    return sum(one for one, _ in inner), sum(every for _, every in inner)
