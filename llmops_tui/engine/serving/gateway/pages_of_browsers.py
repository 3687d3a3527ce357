"""While no keys are asked for, everybody on this box may ask, and so would every page that its user's browser shows. Such a page is told
by what a browser says of it and a page cannot change: its Origin, and the Host that it took the gateway for (DNS rebinding)."""

from __future__ import annotations

import functools
import re
import socket
from ipaddress import ip_address

from llmops_tui.engine.serving.gateway.errors import GatewayError

_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")
_SCHEMES = ("http://", "https://")
_LONGEST = 300  # a domain has 253 characters; what is longer is nobody's, and not worth being remembered


def check_page(host: bytes, origin: bytes, listening: str) -> None:
    """`listening`: the host that the gateway listens on. Raises GatewayError 403 for a page of somewhere else; programs send no Origin."""
    if host and (len(host) > _LONGEST or not _is_here(host, listening)):
        said = host[:200].decode("latin-1")
        raise GatewayError(
            403,
            f"without keys this gateway answers to localhost and this box's own names only, not to {said!r}: set [serving] auth = 'keys'",
            "foreign_host",
        )
    if origin and (len(origin) > _LONGEST or not _is_ours(origin, listening)):
        said = origin[:200].decode("latin-1")
        raise GatewayError(403, f"without keys this gateway answers no web page of {said!r}: set [serving] auth = 'keys'", "foreign_origin")


@functools.lru_cache(maxsize=256)
def _is_here(host: bytes, listening: str) -> bool:
    name = _name(host.decode("latin-1"))
    return _is_loopback_or(name, listening) or name in _own_names()


@functools.lru_cache(maxsize=256)
def _is_ours(origin: bytes, listening: str) -> bool:
    said = origin.decode("latin-1").lower()
    scheme = next((scheme for scheme in _SCHEMES if said.startswith(scheme)), "")
    return bool(scheme) and _is_loopback_or(_name(said.removeprefix(scheme)), listening)


def _name(authority: str) -> str:
    """Without its port and brackets; empty for what is none."""
    found = _AUTHORITY.fullmatch(authority.strip())
    return (found[1] or found[2]).lower().removesuffix(".") if found else ""


def _is_loopback_or(name: str, listening: str) -> bool:
    if not name:
        return False
    if name in ("localhost", listening.lower()):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _own_names() -> frozenset[str]:
    """What this box calls itself: nobody else's domain leads there."""
    name = socket.gethostname().lower().removesuffix(".")
    return frozenset((name, name.partition(".")[0])) - {""}
