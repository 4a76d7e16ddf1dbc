"""The way of a batch from a loader worker to the training process: through memory that has no name and no limit.

torch sends tensors through files in /dev/shm, which is 64 MB in a plain container. A batch that does not fit is lost in
a thread of the worker, without an error. Anonymous memory (`memfd_create`, Linux) is limited by the memory of the
machine or container alone. The message in the loader's queue is so short that the kernel writes it whole or not at all:
a killed worker never leaves half a message. Without such memory the bytes go through the queue.
"""

import errno
import mmap
import os
import pickle
from io import BytesIO
from multiprocessing import resource_sharer
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64  # alignment of tensors in bytes


class Parcel:
    """An object with tensors on its way to another process."""

    def __init__(self, content: Any) -> None:
        """Copy the content into memory of its own.

        Raises:
            OSError: there are too many open files, or there is no memory.
        """
        parts = _serialised(content)
        self._error: Exception | None = None
        self._bytes: Any = None
        self._shared: Any = None
        try:
            descriptor = os.memfd_create("batch", os.MFD_CLOEXEC)
        except (AttributeError, OSError) as error:  # not Linux, or the container forbids it
            if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
                raise
            self._bytes = bytearray(b"".join(parts))
            return
        try:
            for part in parts:
                _write(descriptor, part)
            self._shared = resource_sharer.DupFd(descriptor)
        finally:
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"_shared": self._shared, "_bytes": self._bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the memory over now: the worker may have ended when the content is needed."""
        self._shared, self._bytes, self._error = None, state["_bytes"], None
        if state["_shared"] is None:
            return
        try:
            descriptor = state["_shared"].detach()
            try:
                populate = getattr(mmap, "MAP_POPULATE", 0)
                self._bytes = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | populate)
            finally:
                os.close(descriptor)
        except Exception as error:
            # If it were raised here, it would end a thread of the data loader. `open` raises it.
            self._error = error

    def open(self) -> Any:
        """Return the content; its tensors use this memory, which is freed with the last of them.

        Raises:
            OSError: the memory could not be taken over.
        """
        if self._error is not None:
            raise self._error
        data = memoryview(self._bytes)
        (count,) = np.frombuffer(data, np.int64, 1)
        sizes = np.frombuffer(data, np.int64, count, 8).tolist()
        place, buffers = 8 + 8 * len(sizes), []
        for size in sizes:
            buffers.append(data[place : place + size])
            place = -(-(place + size) // _ALIGNMENT) * _ALIGNMENT
        return pickle.loads(buffers[0], buffers=buffers[1:])

    def pin_memory(self) -> Any:
        """Return the content in pinned memory; the data loader calls this for a GPU."""
        return self.open().pin_memory()


class _Pickler(pickle.Pickler):
    """Leaves the elements of tensors out of the stream, as buffers."""

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return torch.from_numpy, (item.numpy(),)
        return NotImplemented


def _serialised(content: Any) -> list[Any]:
    """Return buffers: their number, the size of each, the pickled content, then its arrays."""
    stream, found = BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(stream, protocol=5, buffer_callback=found.append).dump(content)
    arrays = [buffer.raw() for buffer in found]
    count = 1 + len(arrays)
    head = stream.getvalue()
    head += b"\0" * (-(8 + 8 * count + len(head)) % _ALIGNMENT)  # pickle stops before them
    sizes = np.array([count, len(head), *(array.nbytes for array in arrays)], np.int64)
    parts: list[Any] = [sizes.tobytes(), head]
    for array in arrays:
        parts += [array, b"\0" * (-array.nbytes % _ALIGNMENT)]
    return parts


def _write(descriptor: int, part: Any) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
