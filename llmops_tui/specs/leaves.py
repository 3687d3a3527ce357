"""The leaves of a nested model: each field by its dotted name. The reference pages, the forms and the settings' table walk by this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Leaf(NamedTuple):
    """`default` is what holds when the field is left out, also where the outer model's default says otherwise than the inner one's."""

    path: str
    field: FieldInfo
    default: object
    required: bool


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[Leaf]:
    """Every field that is no section, in the order of declaration; `kind` is no field but what chooses the model."""
    defaults = {
        name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items() if not field.is_required()
    }  # fmt: skip
    for name, field in model.model_fields.items():
        if name == "kind":
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            given = defaults.get(name)
            own = given.model_dump() if isinstance(given, BaseModel) else {}
            for leaf in leaves(inner, f"{prefix}{name}."):
                yield leaf._replace(default=own.get(leaf.path.removeprefix(f"{prefix}{name}."), leaf.default))
        else:
            yield Leaf(f"{prefix}{name}", field, defaults.get(name), field.is_required())
