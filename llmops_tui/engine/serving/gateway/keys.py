"""Who asks: bearer keys by their digests, and what each may still use."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping

from llmops_tui.engine.serving.gateway.config import KeyRule
from llmops_tui.engine.serving.gateway.errors import GatewayError

UNKEYED_PER_MINUTE = 120.0


class Bucket:
    """So many a minute, refilled evenly; it may be overdrawn by what is only known afterwards."""

    __slots__ = ("_at", "_most", "_per_minute", "left")

    def __init__(self, per_minute: float, now: float) -> None:
        self._per_minute = per_minute
        self.left = self._most = _most(per_minute)
        self._at = now

    def refill(self, per_minute: float, now: float) -> None:
        if per_minute != self._per_minute:
            self._most = _most(per_minute)
            self.left = min(self.left, self._most) if self._per_minute else self._most
            self._per_minute = per_minute
        left = self.left + (now - self._at) * per_minute / 60.0
        self.left = left if left < self._most else self._most
        self._at = now

    def seconds_until(self, amount: float) -> float:
        return max(0.0, (amount - self.left) * 60.0 / self._per_minute) if self._per_minute else 0.0


class Key:
    """One key and its use so far."""

    __slots__ = ("_requests", "_tokens", "in_flight", "rule", "today_tokens")

    def __init__(self, rule: KeyRule, now: float) -> None:
        self.rule = rule
        self.in_flight = 0
        self.today_tokens = 0
        self._requests = Bucket(rule.requests_per_minute, now)
        self._tokens = Bucket(rule.tokens_per_minute, now)

    def admit(self, endpoint: str, now: float) -> None:
        """Count a request in. Raises GatewayError 403 or 429; then nothing is counted."""
        rule = self.rule
        if rule.endpoints is not None and endpoint not in rule.endpoints:
            raise GatewayError(403, f"this key may not use {endpoint}", "endpoint_not_allowed")
        if rule.concurrent and self.in_flight >= rule.concurrent:
            raise GatewayError(
                429, f"this key has {self.in_flight} requests under way, which is all it may", "concurrency_exceeded", retry_after=1
            )
        if rule.tokens_per_day and self.today_tokens >= rule.tokens_per_day:
            raise GatewayError(
                429,
                f"this key has used its {rule.tokens_per_day} tokens of today (UTC)",
                "insufficient_quota",
                retry_after=_until_midnight(),
            )
        if rule.tokens_per_minute:
            self._tokens.refill(rule.tokens_per_minute, now)
            if self._tokens.left <= 0:
                raise _too_fast("this key", f"{rule.tokens_per_minute:g} tokens", self._tokens.seconds_until(1))
        if rule.requests_per_minute:
            self.count_request(now)
        self.in_flight += 1

    def count_request(self, now: float) -> None:
        """One more of its requests a minute. Raises GatewayError 429; then it is not counted."""
        per_minute = self.rule.requests_per_minute
        if per_minute:
            self._requests.refill(per_minute, now)
            if self._requests.left < 1:
                raise _too_fast("this key", f"{per_minute:g} requests", self._requests.seconds_until(1))
            self._requests.left -= 1

    def reaches(self, endpoint: str) -> bool:
        """Whether it may ask for this endpoint and hear of it."""
        return self.rule.endpoints is None or endpoint in self.rule.endpoints

    def ended(self, tokens: int) -> None:
        """The request is over and has used so many tokens."""
        self.in_flight -= 1
        self.today_tokens += tokens
        if self.rule.tokens_per_minute:
            self._tokens.left -= tokens


class Unkeyed:
    """Who asks without a key, by the address that it comes from: so many a minute each; of more addresses than are kept the oldest go."""

    def __init__(self, per_minute: float = UNKEYED_PER_MINUTE, most: int = 1024) -> None:
        self._per_minute = per_minute
        self._most = most
        self._buckets: dict[str, Bucket] = {}  # the one that asked last is the last

    def count_request(self, address: str, now: float) -> None:
        """Raises GatewayError 429; then it is not counted."""
        bucket = self._buckets.pop(address, None) or Bucket(self._per_minute, now)
        self._buckets[address] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        bucket.refill(self._per_minute, now)
        if bucket.left < 1:
            raise _too_fast("without a key an address", f"{self._per_minute:g} of these requests", bucket.seconds_until(1))
        bucket.left -= 1


class Keyring:
    """All keys, found by what a client sends."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Key] = {}
        self._absent: dict[str, int] = {}  # what was used today by keys that are not there now, by id: a key that comes back goes on
        self._day = _today()

    @property
    def day(self) -> int:
        """Days since 1970 (UTC): of which day the use is that is counted here."""
        return self._day

    def take(self, rules: Iterable[KeyRule], now: float) -> None:
        """Change to these keys; what a key has used goes on counting."""
        known = {key.rule.id: key for key in self._by_digest.values()}
        self._by_digest = {}
        for rule in rules:
            key = known.pop(rule.id, None)
            if key is None:
                key = Key(rule, now)
                key.today_tokens = self._absent.pop(rule.id, 0)
            key.rule = rule
            self._by_digest[rule.sha256] = key
        for key in known.values():
            if key.today_tokens:
                self._absent[key.rule.id] = key.today_tokens

    @property
    def table(self) -> Mapping[str, Key]:
        """Another object after each change: what was found in it holds as long as it is the same."""
        return self._by_digest

    def find(self, authorization: bytes) -> Key | None:
        """The key of this Authorization header. Only the digest is looked up, so that how long it takes tells nothing of a secret."""
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        return self._by_digest.get(hashlib.sha256(secret.strip()).hexdigest())

    def turn_day(self) -> None:
        """At midnight (UTC) every key's budget of the day is whole again, and only once where the clock is set back over it.

        A clock that goes back by more than a day was wrong before: its right midnight counts from now on, and what was used stays used.
        """
        today = _today()
        if today < self._day - 1:
            self._day = today
        elif today > self._day:
            self._day = today
            self._absent.clear()
            for key in self._by_digest.values():
                key.today_tokens = 0

    def used_today(self) -> dict[str, int]:
        """Tokens of today by the key's id."""
        return {**self._absent, **{key.rule.id: key.today_tokens for key in self._by_digest.values() if key.today_tokens}}

    def restore(self, used: Mapping[str, int], day: int) -> None:
        """Take up what was used on that day, which is today's, before this process began; of keys that come later too."""
        self._day = day
        self._absent = dict(used)
        for key in self._by_digest.values():
            key.today_tokens = max(key.today_tokens, self._absent.pop(key.rule.id, 0))


def _most(per_minute: float) -> float:
    """What a bucket holds: of less than one a minute still one, or it would never be whole."""
    return max(1.0, per_minute) if per_minute else 0.0


def _too_fast(who: str, limit: str, seconds: float) -> GatewayError:
    return GatewayError(
        429, f"{who} may use {limit} a minute; try again in {seconds:.1f} s", "rate_limit_exceeded", retry_after=max(1.0, seconds)
    )


def _today() -> int:
    return int(time.time()) // 86400


def _until_midnight() -> float:
    return 86400 - time.time() % 86400
