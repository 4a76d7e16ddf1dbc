"""The content of a file of weights, read without running code in it."""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hardviews.errors import UserError
from hardviews.foreign.stand_ins import STAND_INS
from hardviews.storage.store import open_store
from hardviews.storage.url import protocol_of

_STORED = ("file", "local", "s3")
# How files begin that are often taken for weights.
_POINTER = b"version https://git-lfs"
_WEB_PAGE = b"<"


@dataclass(frozen=True, eq=False)
class Contents:
    """A file of weights.

    Attributes:
        file: its name, without folders.
        sha256: of its bytes.
        held: its entries by name, nested as in the file.
    """

    file: str
    sha256: str
    held: Mapping[str, Any]

    def state(self, entry: Sequence[str]) -> Mapping[str, Any] | None:
        """Return the mapping of names to tensors at an entry, None if there is none. entry: path, from outside in."""
        value: Any = self.held
        for name in entry:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        if not isinstance(value, Mapping) or not any(isinstance(one, Tensor) for one in value.values()):
            return None
        return value


def read(address: str, option: str = "") -> Contents:
    """Read a file of this machine or of an object store.

    `option`: words before the address in messages, for example "--weights ".

    Raises:
        UserError: it is not there, is cut short, holds no tensors, or holds objects that may run code.
    """
    named = f"{option}{address}"
    if protocol_of(address) not in _STORED:
        raise UserError(f"{named} is an address of the web. Download the file yourself, compare its checksum, name it.")
    data = _bytes(address, named)
    file = address.rstrip("/").rpartition("/")[2]
    held = _safetensors(data, named) if _is_safetensors(file, data) else _pickled(data, named)
    if not isinstance(held, Mapping) or not _has_tensors(held):
        raise UserError(f"{named} holds no state dict: there are no names with tensors in it.")
    return Contents(file, hashlib.sha256(data).hexdigest(), {str(name): value for name, value in held.items()})


def _bytes(address: str, named: str) -> bytes:
    folder, _, file = address.rpartition("/")
    try:
        data = open_store(folder or ("/" if address.startswith("/") else ".")).read(file)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{named}: there is no such file.") from None
    except IsADirectoryError:
        raise UserError(f"{named} is a folder. Name the file with the weights in it.") from None
    if data.startswith(_POINTER):
        raise UserError(f"{named} is a pointer of Git LFS and holds no weights. Fetch the file itself: git lfs pull.")
    if data.lstrip()[:1] == _WEB_PAGE:
        raise UserError(f"{named} is a web page and holds no weights. Download the file itself.")
    return data


def _is_safetensors(file: str, data: bytes) -> bool:
    return file.endswith(".safetensors") or data[8:9] == b"{"


def _safetensors(data: bytes, named: str) -> Mapping[str, Any]:
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{named} cannot be read: it is cut short or damaged ({_first_line(error)}).") from error


def _pickled(data: bytes, named: str) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(STAND_INS):
            warnings.filterwarnings("ignore", "Detected pickle protocol|.*TorchScript archive")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises errors of many kinds for a damaged file
        kind = _refused(str(error))
        if kind is None:
            raise UserError(
                f"{named} cannot be read: it is cut short, damaged, or not a file of weights ({_first_line(error)})."
            ) from error
        raise UserError(
            f"{named} holds more than weights: {kind}. Objects in a file may run code, so nothing of it was loaded. "
            "If you trust the file, save its weights alone in the environment that it comes from: python -c 'import "
            'torch; held = torch.load("FILE", map_location="cpu", weights_only=False); torch.save({"state_dict": '
            'held["state_dict"]}, "weights.pth")\'. A file that is a whole network has held.state_dict() instead.'
        ) from error


def _refused(message: str) -> str | None:
    """Return the object that the safe reader refused, None if the file is broken instead."""
    found = re.search(r"GLOBAL (\S+)", message)
    if found:
        return f"an object of {found[1]}"
    if "TorchScript" in message:
        return "a TorchScript program"
    if re.search(r"Can only (create|build|SETITEM|append|extend)|unrecognized function", message):
        return "an object of a class that is not known to be harmless"
    return None


def _has_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_tensors(one) for one in value.values())
    return isinstance(value, Tensor)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
