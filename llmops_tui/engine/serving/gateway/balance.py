"""Which version, and which of its replicas: pure functions of what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """What choosing a replica looks at."""

    @property
    def id(self) -> str: ...
    @property
    def outstanding_tokens(self) -> int: ...


class Weighted(Protocol):
    @property
    def weight(self) -> float: ...


R = TypeVar("R", bound=Loaded)
V = TypeVar("V", bound=Weighted)


def point_of(text: bytes) -> float:
    """A number in [0, 1) that depends on the text alone, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") / (1 << 56)


def by_weight(versions: Sequence[V], point: float) -> V:
    """The version whose share of the total weight the point in [0, 1) falls in; of weights that are all 0, each has the same share."""
    total = sum(version.weight for version in versions)
    if total <= 0:
        return versions[int(point * len(versions))]
    left = point * total
    for version in versions:
        left -= version.weight
        if left < 0:
            return version
    return next(version for version in reversed(versions) if version.weight > 0)


def least_tokens(replicas: Sequence[R], first: float, second: float) -> R:
    """The less loaded of two drawn ones (Mitzenmacher 2001, "The Power of Two Choices"); `first`, `second` in [0, 1)."""
    count = len(replicas)
    a = int(first * count)
    b = int(second * (count - 1))
    if b >= a:
        b += 1
    one, other = replicas[a], replicas[b]
    return one if one.outstanding_tokens <= other.outstanding_tokens else other


def by_affinity(replicas: Sequence[R], mark: bytes) -> R:
    """The same replica for the same mark while it is there, else another one (highest random weight; Thaler, Ravishankar 1998)."""
    return max(replicas, key=lambda replica: hashlib.blake2b(mark + b"\0" + replica.id.encode(), digest_size=8).digest())


def prefix(replicas: Sequence[R], mark: bytes, first: float, second: float) -> R:
    """The replica that has this prefix in its cache, unless it is far busier than the least busy: then the load counts."""
    chosen = by_affinity(replicas, mark)
    least = min(replica.outstanding_tokens for replica in replicas)
    if chosen.outstanding_tokens > 2 * least + 4096:
        return least_tokens(replicas, first, second)
    return chosen
