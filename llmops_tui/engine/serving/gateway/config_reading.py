"""Reading untrusted JSON field by field: each refusal names the field and what it wants."""

from __future__ import annotations

from collections.abc import Iterator


class ConfigError(ValueError):
    """A configuration that cannot be used; the text names the field."""


class Section:
    """One JSON object and where it stands in the file."""

    __slots__ = ("_values", "where")

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{where or 'the file'}: must be an object, not {_kind(values)}")
        self._values: dict[str, object] = values
        self.where = where

    def text(self, field: str, default: str | None = None) -> str:
        value = self._values.get(field, default)
        if not isinstance(value, str):
            raise self._wrong(field, "must be a text", value)
        return value

    def word(self, field: str, words: tuple[str, ...], default: str | None = None) -> str:
        value = self._values.get(field, default)
        if not isinstance(value, str) or value not in words:
            raise self._wrong(field, f"must be one of {', '.join(words)}", value)
        return value

    def whole(self, field: str, default: int | None = None, low: int = 0, high: int = 1 << 53) -> int:
        value = self._values.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(field, f"must be a whole number from {low} to {high}", value)
        return value

    def number(self, field: str, default: float | None = None, low: float = 0.0, high: float = 1e15) -> float:
        value = self._values.get(field, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self._wrong(field, f"must be a number from {low:g} to {high:g}", value)
        return float(value)

    def flag(self, field: str, default: bool) -> bool:
        value = self._values.get(field, default)
        if not isinstance(value, bool):
            raise self._wrong(field, "must be true or false", value)
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self._values.get(field, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(field, "must be a list of texts", value)
        return tuple(value)

    def words(self, field: str) -> dict[str, str]:
        """An object whose values are texts."""
        value = self._values.get(field, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(field, "must be an object of texts", value)
        return dict(value)

    def part(self, field: str) -> Section:
        return Section(self._values.get(field, {}), self._at(field))

    def listed(self, field: str) -> Iterator[Section]:
        value = self._values.get(field, [])
        if not isinstance(value, list):
            raise self._wrong(field, "must be a list", value)
        for index, item in enumerate(value):
            yield Section(item, f"{self._at(field)}[{index}]")

    def named(self, field: str) -> Iterator[tuple[str, Section]]:
        value = self._values.get(field, {})
        if not isinstance(value, dict):
            raise self._wrong(field, "must be an object", value)
        for name, item in value.items():
            yield name, Section(item, f"{self._at(field)}.{name.encode('unicode_escape').decode()[:200]}")

    def _at(self, field: str) -> str:
        return f"{self.where}.{field}" if self.where else field

    def _wrong(self, field: str, wants: str, value: object) -> ConfigError:
        got = "it is missing" if value is None else f"not {repr(value)[:60]}"
        return ConfigError(f"{self._at(field)}: {wants}, {got}")


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}.get(type(value), type(value).__name__)
