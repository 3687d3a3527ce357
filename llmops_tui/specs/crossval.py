"""The wish to cross-validate a fine-tune: the same spec on k divisions of its rows, each row held out once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmops_tui.specs.common import BASIC, RunSpec
from llmops_tui.specs.sweep import refuse_own_resources
from llmops_tui.specs.train import TrainSpec


class CrossvalSpec(RunSpec):
    """`crossval`: k fine-tunes of one spec, each scored on the rows the others learnt from; needs no process of its own."""

    kind: Literal["crossval"] = "crossval"
    base: TrainSpec = Field(description="The train spec; its held-out rows are taken by the folds")
    folds: int = Field(5, ge=2, le=100, description="Parts the rows are divided into; each is held out once", json_schema_extra=BASIC)
    group_by: str = Field(
        "", max_length=200, description="A key of the rows, which are never divided where they agree in it (a document, a cluster)"
    )
    metric: str = Field("eval/loss", min_length=1, max_length=200, description="A fold's score: its newest value", json_schema_extra=BASIC)
    parallel: int | Literal["auto"] = Field("auto", description="Folds at a time; auto: as many as there is room for")
    max_failures: int = Field(1, ge=1, le=100, description="The cross-validation ends when so many folds in a row have failed")

    @model_validator(mode="after")
    def _the_folds_hold_out(self) -> CrossvalSpec:
        refuse_own_resources(self)
        if isinstance(self.parallel, int) and not 1 <= self.parallel <= 100:
            raise ValueError("parallel: must be 1 to 100, or auto")
        if self.base.dataset.eval_path:
            raise ValueError("base.dataset.eval_path: the folds take their held-out rows from the dataset itself: leave it out")
        if self.base.dataset.fold is not None or self.base.dataset.folds is not None:
            raise ValueError("base.dataset.fold: each fold sets its own: leave it out")
        return self

    def default_name(self) -> str:
        return self.base.name or self.base.default_name()
