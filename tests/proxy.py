"""A proxy on loopback that passes TCP connections on to a server and spoils some of the answers."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

Fault = str  # "503", "reset", "cut", "stall", "flip"; "" for none
Choose = Callable[[str, int], Fault]  # of the request's first line and its number


class Proxy:
    """Its `port`, the `requests`, and the bytes of the answers (`sent`).

    `choose` returns the fault of the answer to each request:

    * 503: an answer without asking the server;
    * reset: a reset of the connection in place of an answer;
    * cut: the connection ends within the body;
    * stall: nothing more comes, and the connection stays;
    * flip: one bit of the body is wrong.
    """

    def __init__(self, target: int, choose: Choose) -> None:
        self.choose = choose
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self.sent = 0
        self._target = target
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ends.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._ends.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            source = client.makefile("rb")
            answers = server.makefile("rb")
            while True:
                head = _head(source)
                if not head:
                    return
                first = head.split(b"\r\n", 1)[0].decode("latin-1")
                with self._lock:
                    self.requests.append(first)
                    fault = self.choose(first, len(self.requests))
                    self.faults += [fault] if fault else []
                size = _length(head)
                if fault == "503":
                    source.read(size)
                    body = b"<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"
                    client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    continue
                if fault == "reset":
                    _reset(client)
                    return
                server.sendall(head)
                while size > 0:
                    part = source.read(min(size, 65536))
                    if not part:
                        return
                    server.sendall(part)
                    size -= len(part)
                if not self._answer(client, answers, fault, first.startswith("HEAD")):
                    return

    def _answer(self, client: socket.socket, answers, fault: Fault, no_body: bool) -> bool:
        """Pass an answer on; whether the connection goes on."""
        while True:
            head = _head(answers)
            if not head:
                return False
            client.sendall(head)
            if not head.startswith(b"HTTP/1.1 100"):
                break
        size = 0 if no_body or b" 204 " in head[:20] or b" 304 " in head[:20] else _length(head)
        if b"chunked" in head.lower():
            while True:
                line = answers.readline()
                size = int(line, 16)
                client.sendall(line + answers.read(size + 2))
                if not size:
                    return True
        at, spoiled = 0, size // 2
        while at < size:
            part = bytearray(answers.read(min(size - at, 65536)))
            if not part:
                return False
            if fault in ("cut", "stall", "flip") and at <= spoiled < at + len(part):
                if fault == "flip":
                    part[spoiled - at] ^= 1
                else:
                    client.sendall(part[: spoiled - at])
                    if fault == "stall":
                        self._ends.wait(120)
                    return False
            client.sendall(part)
            with self._lock:
                self.sent += len(part)
            at += len(part)
        return True


def _head(stream) -> bytes:
    """Everything up to the empty line; nothing if the connection ended."""
    lines = []
    while True:
        line = stream.readline()
        if not line:
            return b""
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


def _reset(client: socket.socket) -> None:
    import struct

    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextlib.contextmanager
def proxy(target: int, choose: Choose = lambda line, number: "") -> Iterator[Proxy]:
    """A proxy for a port of loopback."""
    made = Proxy(target, choose)
    try:
        yield made
    finally:
        made.close()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for a condition; fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
