"""The section `[[average]]`: means of checkpoints that are evaluated beside them."""

from __future__ import annotations

from pydantic import Field, model_validator

from watcher.domain.averages import AverageSpec
from watcher.settings.section import INT64_MAX, Section


class AverageSettings(Section):
    """`[[average]]`: with every new checkpoint of a run, evaluate the mean of its last ones, too."""

    last: int | None = Field(None, ge=2, le=1000, description="Number of checkpoints, each with the same weight.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an exponential mean: each older checkpoint weighs this much less."
    )
    every: int = Field(1, ge=1, le=INT64_MAX, description="Use only steps that are a multiple of N.")

    @model_validator(mode="after")
    def _is_a_mean(self) -> AverageSettings:
        if self.last is None and self.ema is None:
            raise ValueError("needs `last` or `ema`, or both for an exponential mean of the last ones")
        return self

    @property
    def spec(self) -> AverageSpec:
        return AverageSpec(self.last, self.ema, self.every)
