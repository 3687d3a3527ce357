"""What a student learns from a teacher: the part of the training spec for the method distill."""

from __future__ import annotations

from pydantic import Field

from llmops_tui.specs.common import MODEL, StrictModel


class DistillChoice(StrictModel):
    """How a model learns from a teacher's predictions (method distill)."""

    teacher: str = Field(
        "", description="A registered model or adapter, or its directory, with the student's own vocabulary", json_schema_extra=MODEL
    )
    temperature: float = Field(1.0, gt=0, le=100, description="Softens what teacher and student predict; above 1 shows more of the rest")
    weight: float = Field(0.9, ge=0, le=1, description="Share of the teacher's predictions in the loss; the rest is the rows themselves")


def objection_to_distill(method: str, distill: DistillChoice) -> str:
    """What of the wish does not fit together, as `field: reason`; empty where nothing is wrong."""
    if method == "distill" and not distill.teacher:
        return "distill.teacher: method=distill learns from a teacher: name a model"
    if method != "distill" and distill.teacher:
        return f"distill.teacher: method={method} has no teacher; set method=distill or leave it out"
    return ""
