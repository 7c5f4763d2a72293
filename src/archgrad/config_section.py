"""What sections of the configuration are made of: the base class, and numbers with their ranges."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Length = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, strings are not turned into numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
