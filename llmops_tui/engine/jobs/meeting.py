"""Where the ranks of several boxes meet: an address of the first box, a port there, and each box's interface towards it.

gloo takes the interface of the host's own name unless told otherwise, which on many systems is the loopback: nobody else gets there.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Mapping

import psutil

from llmops_tui import __version__
from llmops_tui.errors import UsageError

# What must be the same on every box: another version may draw other random numbers, or name weights otherwise.
_ALIKE = ("torch", "transformers", "accelerate", "peft", "trl")


def versions() -> dict[str, str]:
    """Of this program and of what it trains with."""
    found = {"llmops-tui": __version__}
    for name in _ALIKE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def free_port(address: str) -> int:
    """One that nobody listens on at that address. Raises OSError for an address that is none of this box."""
    family = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])


def own_address(name: str, towards: str) -> str:
    """`name` as an address of this box. `towards`: who shall come there, for the error. Raises UsageError where it is none."""
    try:
        found = socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"processes.address: {name!r} is not known here: {error.strerror}", "write an address of this box") from None
    for *_, place in found:
        if _interface_of(str(place[0])):
            return str(place[0])
    raise UsageError(
        f"{towards} reaches this box as {name}, which is none of its own addresses",
        "set processes.address to an address of this box that the others reach",
    )


def interface_here(address: str, chosen: Mapping[str, str]) -> dict[str, str]:
    """The interface that has this address, for gloo and NCCL, where `chosen` does not say otherwise."""
    return _for_both(_interface_of(address), chosen)


def interface_towards(address: str, port: int, chosen: Mapping[str, str]) -> dict[str, str]:
    """The interface whose way leads to an address of another box; nothing is sent."""
    family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(place)
        return _for_both(_interface_of(str(way.getsockname()[0])), chosen)


def _interface_of(address: str) -> str:
    plain = address.partition("%")[0]
    for name, places in psutil.net_if_addrs().items():
        if any(place.address.partition("%")[0] == plain for place in places):
            return str(name)
    return ""


def _for_both(interface: str, chosen: Mapping[str, str]) -> dict[str, str]:
    # NCCL takes a name for the beginning of one, unless an = stands before it.
    wanted = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"}
    return {name: value for name, value in wanted.items() if interface and not chosen.get(name)}
