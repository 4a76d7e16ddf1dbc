"""A proxy that makes a server on this machine as slow as a distant object store: in latency and in bandwidth.

    python benchmarks/reading/distance.py --target 8333 --port 9000 [--latency 20] [--rate 85]

Latency in milliseconds before a request is passed on, rate in MB/s of a connection's answers. It runs until it is
stopped, as a process of its own, so that its processor time is nobody else's.
"""

import argparse
import contextlib
import socket
import threading
import time

CHUNK = 2**18


def pass_on(source: socket.socket, sink: socket.socket, latency: float, rate: float) -> None:
    """Copy until the end: wait before every piece, and after it for as long as the rate says."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            if latency:
                time.sleep(latency)
            began = time.perf_counter()
            sink.sendall(data)
            if rate:
                time.sleep(max(0.0, len(data) / rate - (time.perf_counter() - began)))
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=int, required=True, help="port of the server")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--latency", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=85.0)
    arguments = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", arguments.port))
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", arguments.target))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there = (client, server, arguments.latency / 1e3, 0.0)
        back = (server, client, 0.0, arguments.rate * 1e6)
        for directions in (there, back):
            threading.Thread(target=pass_on, args=directions, daemon=True).start()


if __name__ == "__main__":
    main()
