"""What pydantic says of a wrong value, in words for somebody who has never heard of pydantic."""

from __future__ import annotations

from typing import Any


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
