"""Small sources and datasets, and a web server that answers ranged requests, for the tests of the data
layer."""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import webdataset
from PIL import Image

from hardviews.data.index import INDEX_NAME, SAMPLE, SAMPLES_NAME, Index, Shard, encode_index, encode_table
from hardviews.data.source import Item


@dataclass(frozen=True)
class Noise:
    """`n` images of random pixels and sizes; those in `broken` hold bytes that are no image."""

    n: int
    side: int = 24
    extension: str = "png"
    broken: frozenset[int] = frozenset()
    classes: tuple[str, ...] = ("even", "odd")

    def __len__(self) -> int:
        return self.n

    def key(self, i: int) -> str:
        return f"noise_{i:05d}"

    def read(self, i: int) -> Item:
        random = np.random.default_rng(i)
        height, width = random.integers(self.side // 2, self.side, 2)
        stream = io.BytesIO()
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "PNG" if self.extension == "png" else "JPEG")
        data = b"no image" if i in self.broken else stream.getvalue()
        return Item(self.key(i), data, self.extension, i % 2, f"noise/{i}")


def content(i: int) -> bytes:
    """The bytes of sample i of `write_dataset`: no image, but known to the test."""
    return f"sample {i} ".encode() * (1 + i % 7)


def write_dataset(folder: str, counts: Sequence[int], padding: int = 0) -> Index:
    """A dataset with so many samples in each shard, of `padding` more bytes each, written without the
    packer."""
    os.makedirs(folder, exist_ok=True)
    rows, shards, i = [], [], 0
    for number, count in enumerate(counts):
        path = os.path.join(folder, f"shard-{number:06d}.tar")
        with open(path, "wb") as stream:
            tar = webdataset.TarWriter(stream, mtime=0, encoder=False)
            for _ in range(count):
                data = content(i) + bytes(padding)
                rows.append((number, tar.tarstream.offset + 512, len(data), zlib.crc32(data), i % 3, 1, 1))
                tar.write({"__key__": f"s{i}", "bin": data})
                i += 1
            tar.close()
        with open(path, "rb") as stream:
            raw = stream.read()
        name = os.path.basename(path)
        shards.append(Shard(name, len(raw), count, zlib.crc32(raw), hashlib.sha256(raw).hexdigest()))
    table = encode_table(np.array(rows, dtype=SAMPLE))
    head = encode_index(("a", "b", "c"), tuple(shards), table, i, 0)
    for name, raw in ((SAMPLES_NAME, table), (INDEX_NAME, head)):
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(raw)
    return Index.load(folder)


def flip_bit(path: str, at: int) -> None:
    """Damage one byte of a file."""
    os.chmod(path, 0o644)
    with open(path, "r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


class _Ranged(http.server.SimpleHTTPRequestHandler):
    """Serves files of a folder, whole or one range of them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            self.send_error(404)
            return
        with open(path, "rb") as stream:
            data = stream.read()
        wanted = self.headers.get("Range")
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            stop = int(last) + 1 if last else len(data)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{len(data)}")
            data = data[int(first) : stop]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def web_server(folder: str) -> Iterator[str]:
    """Serve a folder on loopback; yields its URL."""
    handler = functools.partial(_Ranged, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
