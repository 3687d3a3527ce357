"""What pydantic says of a wrong value, in words for somebody who has never heard of pydantic."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


def named_faults(error: ValidationError) -> dict[str, str]:
    """What is wrong by the field's dotted name, in order. Where a field takes one of several types, its faults are one."""
    items = error.errors(include_url=False)
    # pydantic ends the place of such a fault with the type it tried: `int`, `literal['auto']`, `list[str]`.
    several = {item["loc"][:-1] for item in items if item["type"] != "extra_forbidden" and _ends_with_type(item["loc"])}
    faults: dict[str, list[str]] = {}
    for item in items:
        place = item["loc"][:-1] if item["loc"][:-1] in several else item["loc"]
        message = plain(item["type"], item["msg"], item.get("ctx"))
        faults.setdefault(".".join(map(str, place)), []).append(message)
    return {
        name: " or ".join([messages[0], *(each.removeprefix("should be ") for each in messages[1:])]) for name, messages in faults.items()
    }


def _ends_with_type(place: tuple[int | str, ...]) -> bool:
    return len(place) > 1 and str(place[-1]).startswith(("literal[", "list["))


def plain(kind: str, message: str, context: dict[str, Any] | None = None) -> str:
    """The fault of one field, to stand after its name and a colon: `is required`, `should be greater than 0`."""
    values = context or {}
    match kind:
        case "extra_forbidden":
            return "unknown key"
        case "missing":
            return "is required"
        case "string_too_short":
            return "must not be empty" if values["min_length"] == 1 else f"should be at least {values['min_length']} characters long"
        case "string_too_long":
            return f"should be at most {values['max_length']} characters long"
        case "too_short":
            return "must not be empty" if values["min_length"] == 1 else f"needs at least {values['min_length']} entries"
        case "too_long":
            return f"takes at most {values['max_length']} entries, not {values['actual_length'] or 'more'}"
        case "list_type":
            return "should be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "should be a mapping of keys to values"
        case "string_type" | "string_sub_type":
            return "should be text"
        case "int_type" | "int_parsing" | "int_from_float":
            return "should be a whole number"
        case "int_parsing_size":
            return "is too large a number"
        case "float_type" | "float_parsing":
            return "should be a number"
        case "finite_number":
            return "should be a finite number"
        case "bool_type" | "bool_parsing":
            return "should be true or false"
        case "json_invalid":
            return "is not valid JSON"
        case _:
            return message.removeprefix("Value error, ").removeprefix("Input ")
