"""A door to a server that can be shut: faults of a network and a server, on demand and at once."""

import socket
import threading
from contextlib import suppress


class Gate:
    """Relays a port of the loopback interface to a server's, in one of four ways.

    * `open`;
    * `shut`: connections are refused;
    * `black_hole`: connections are accepted and never answered;
    * `deaf`: requests reach the server, answers are cut off.
    """

    def __init__(self, server_port, host="127.0.0.1"):
        self._server_port = server_port
        self._host = host
        self.mode = "shut"
        self.cut = 0
        self._listener = None
        self._pairs = []
        with socket.socket() as sock:
            sock.bind((host, 0))
            self.port = sock.getsockname()[1]
        self.set("open")

    @property
    def uri(self):
        return f"http://{self._host}:{self.port}"

    def set(self, mode):
        """Change the way from now on; connections that stand are cut, those in a black hole too."""
        self.mode = mode
        for sock in self._pairs:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._pairs = []
        if mode == "shut" and self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        elif mode != "shut" and self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self._host, self.port))
            self._listener.listen(32)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self):
        self.set("shut")

    def _accept(self, listener):
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            self._pairs.append(client)
            if self.mode == "black_hole":
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            self._pairs.append(server)
            for source, target, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._copy, args=(source, target, answers), daemon=True).start()

    def _copy(self, source, target, answers):
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.mode == "deaf":
                    self.cut += 1
                    break
                target.sendall(data)
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
