"""Evaluations of a model against readers, as `evaluate` would write them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cardiometa.statistics.measurement_error import (
    FORMAT,
    ErrorLine,
    MeasureError,
    MeasurementError,
)


def exact_line(slope: float, intercept: float, mean_reference: float, **cells: Any) -> ErrorLine:
    """A line that is known without error."""
    zero = dict.fromkeys(("var_intercept", "var_slope", "covariance", "residual_sd"), 0.0)
    values = {"n_people": 500, "n_scans": 500, "residual_df": 498.0}
    values |= {"mean_reference": mean_reference}
    return ErrorLine(slope=slope, intercept=intercept, **{**zero, **values, **cells})


def evaluation_of(*measures: MeasureError, **changes: Any) -> MeasurementError:
    """The errors of a model on readers' hearts, none of them trained on."""
    found = MeasurementError(
        format=FORMAT,
        source="evaluation",
        against="labels",
        cohort="readings",
        model_id="m",
        model_sha256="ab",
        min_cell=10,
        trained_on="none",
        measures=measures,
    )
    return replace(found, **changes)
