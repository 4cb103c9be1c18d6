"""The sums of each arm of each trial: all that the Gaussian models of pooling need of the rows.

Within an arm the treatment is constant, so the sums of baseline, covariates and outcome by arm give
the treatment, its products with any covariate, and models of any coding, exactly. The same sums
feed the two-stage and one-stage models and the files of federated pooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from ...records import TrialSummary
from ...statistics.mixed.sufficient_statistics import (
    merge_summaries,
    summarise_rows,
    transform_summary,
)
from ...statistics.mixed.trial_contrasts import ModelColumns, TrialBlock, trial_block

OUTCOME = "outcome"
ARM_PREFIX = "arm:"
PRODUCT = "treat*"
INTERCEPT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSums:
    """One trial's arms in order (the control first where there is one), each with its sums.

    ``nuisance`` are the columns of every model of the trial; the others are the outcome and the
    covariates that may modify the effect.
    """

    trial: str
    control: str
    nuisance: tuple[str, ...]
    arms: Mapping[str, TrialSummary]

    @property
    def active(self) -> tuple[str, ...]:
        """The arms that are not the control."""
        return tuple(arm for arm in self.arms if arm != self.control)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the sums."""
        return next(iter(self.arms.values())).columns

    def count(self, arm: str) -> int:
        """Participants of one arm, 0 where the trial has none."""
        return self.arms[arm].n if arm in self.arms else 0


def arm_column(arm: str) -> str:
    """The name of an arm's indicator among a model's columns."""
    return f"{ARM_PREFIX}{arm}"


def arm_sums(
    trial: str,
    rows: pd.DataFrame,
    *,
    nuisance: pd.DataFrame,
    control: str,
    modifiers: pd.DataFrame | None = None,
) -> ArmSums:
    """The sums of one trial's rows by arm.

    ``rows`` has ``arm`` and ``outcome``; ``nuisance`` and ``modifiers`` the same index, complete,
    numeric, with different names.
    """
    parts = [nuisance] if modifiers is None else [nuisance, modifiers]
    names = [str(name) for part in parts for name in part.columns]
    values = [part[name].to_numpy(dtype=float) for part in parts for name in part.columns]
    table = np.column_stack([*values, rows["outcome"].to_numpy(dtype=float)])
    arm = rows["arm"].to_numpy()
    order = sorted(set(arm), key=lambda name: (name != control, name))
    return ArmSums(
        trial=trial,
        control=control,
        nuisance=tuple(map(str, nuisance.columns)),
        arms={
            str(name): summarise_rows(trial, [*names, OUTCOME], table[arm == name])
            for name in order
        },
    )


def form_of(sums: ArmSums, arm: str, column: str, centres: Mapping[str, float]) -> np.ndarray:
    """A model's column as a linear form in (1, the sums' columns) within one arm.

    ``arm:<name>`` is that arm's indicator less its centre; ``treat*<column>`` is (indicator of any
    active arm) x (column - its centre); ``""`` the intercept; other names are the sums' columns,
    less their centres.
    """
    form = np.zeros(1 + len(sums.columns))
    if column == INTERCEPT:
        form[0] = 1.0
    elif column.startswith(ARM_PREFIX):
        form[0] = float(arm == column.removeprefix(ARM_PREFIX)) - centres.get(column, 0.0)
    elif column.startswith(PRODUCT):
        name = column.removeprefix(PRODUCT)
        if arm != sums.control:
            form[1 + sums.columns.index(name)] = 1.0
            form[0] = -centres.get(name, 0.0)
    else:
        form[1 + sums.columns.index(column)] = 1.0
        form[0] = -centres.get(column, 0.0)
    return form


def whole_trial(
    sums: ArmSums, columns: Sequence[str], centres: Mapping[str, float] | None = None
) -> TrialSummary:
    """The sums of a whole trial for a model's ``columns``, all arms merged."""
    parts = []
    for arm, summary in sums.arms.items():
        forms = np.column_stack([form_of(sums, arm, name, centres or {}) for name in columns])
        parts.append(transform_summary(summary, columns, forms))
    return reduce(merge_summaries, parts)


def centre(sums: ArmSums, name: str) -> float:
    """The mean of a column over all participants of the trial."""
    position = sums.columns.index(name)
    total = sum(summary.n for summary in sums.arms.values())
    return sum(s.n * float(s.means[position]) for s in sums.arms.values()) / total


def model_block(
    sums: ArmSums,
    columns: ModelColumns,
    *,
    residual: str,
    centres: Mapping[str, float] | None = None,
) -> TrialBlock:
    """One trial's block of a one-stage model."""
    names = {*columns.nuisance, *columns.fixed, *columns.random, columns.outcome}
    maps = [{name: form_of(sums, arm, name, centres or {}) for name in names} for arm in sums.arms]
    return trial_block(sums.trial, list(sums.arms.values()), maps, columns, residual=residual)
