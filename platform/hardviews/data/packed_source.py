"""A packed dataset as a source of images: to pack a part of it, bytes and keys as they are."""

import threading
from io import BytesIO

from PIL import Image

from hardviews.data.index import Index
from hardviews.data.reader import Reader, ReaderConfig
from hardviews.data.source import Item

_EXTENSIONS = {"JPEG": "jpg"}  # if different from the format's name


class PackedSource:
    """The images of a packed dataset, in its order; from a remote dataset each is fetched by itself."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._reader = Reader(index, ReaderConfig(cache_bytes=0, ahead=0))
        self._lock = threading.Lock()  # a reader serves one thread

    @property
    def classes(self) -> tuple[str, ...]:
        return self.index.classes

    def __len__(self) -> int:
        return len(self.index)

    def key(self, i: int) -> str:
        """Return a name made of the number: the key itself is known only when the image is read."""
        return f"row-{i:09d}"

    def read(self, i: int) -> Item:
        with self._lock:
            (sample,) = self._reader.read([i])
        with Image.open(BytesIO(sample.data)) as image:
            kind = str(image.format)
        extension = _EXTENSIONS.get(kind, kind.lower())
        return Item(sample.key, sample.data, extension, sample.label, f"{self.index.url}: {sample.key}")
