"""Addresses: of the coordinator of a job, and of this machine for its peers."""

import fcntl
import socket
import struct
import sys
from collections.abc import Mapping

from hardviews.errors import UserError

RENDEZVOUS_VARIABLE = "HARDVIEWS_RENDEZVOUS"
"""Environment variable: `host:port` of the coordinator of a job whose processes all run on this machine."""

NODE_VARIABLE = "HARDVIEWS_NODE"
"""Environment variable: a node's name, if several nodes are on one machine; else it is the host's name."""

LAST_PORT = 65535

_SIOCGIFADDR = 0x8915  # linux/sockios.h


def address(variables: Mapping[str, str]) -> tuple[str, int] | None:
    """Read the coordinator's host and port from environment variables; None if they are not set.

    Raises:
        UserError: the variable is not an address.
    """
    text = variables.get(RENDEZVOUS_VARIABLE, "")
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > LAST_PORT:
        raise UserError(
            f"{RENDEZVOUS_VARIABLE} is {text!r}, not an address HOST:PORT. `hardviews launch` and `torchx run` set it; "
            "unset it otherwise."
        )
    return host, int(port)


def reserve(host: str, port: int = 0) -> socket.socket:
    """Reserve a port of an address of this machine, 0 for a free one, for the processes that share it.

    The socket is bound but does not listen, so connections reach only the process that binds it as well, with
    SO_REUSEPORT.
    """
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((host, port))
    return holder


def check_free(host: str, port: int) -> None:
    """Raise OSError if a port is taken, also if its owner would share it, as `reserve` does with all of a user."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ports of ended connections count as free
        probe.bind((host, port))


def interface(host: str) -> str | None:
    """Return the name of the network interface that has an IPv4 address; None if it cannot be determined."""
    if host.startswith("127.") or host == "::1":
        return "lo0" if sys.platform == "darwin" else "lo"
    if not sys.platform.startswith("linux") or ":" in host:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # an interface without an IPv4 address
            if socket.inet_ntoa(answer[20:24]) == host:
                return name
    return None
