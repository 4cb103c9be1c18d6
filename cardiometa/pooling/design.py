"""The design matrix of one trial's own regression of events: arms and covariates, independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .eligible import Analysed

_DEPENDENT = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDesign:
    """``x`` ``[n, p]``: the active arms' indicators, then the covariates that are independent.

    ``dropped`` are covariates that are constant here, or explained by those before them.
    """

    x: np.ndarray
    active: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was left out of the model, in words."""
        if not self.dropped:
            return ""
        names = ", ".join(self.dropped)
        return f"not adjusted for {names} (constant or explained by the others here)"


def trial_design(trial: Analysed, control: str) -> TrialDesign:
    """Indicators of the active arms and the covariates of ``trial``, without an intercept."""
    arm = trial.rows["arm"].to_numpy()
    active = tuple(sorted(set(arm) - {control}))
    columns = [(arm == name).astype(float) for name in active]
    dropped = []
    # Each covariate is held against the arms and the covariates already in, the mean out.
    for name in trial.nuisance.columns:
        values = trial.nuisance[name].to_numpy(dtype=float)
        if is_explained(values, columns):
            dropped.append(str(name))
        else:
            columns.append(values)
    return TrialDesign(
        x=np.column_stack(columns) if columns else np.empty((len(arm), 0)),
        active=active,
        dropped=tuple(dropped),
    )


def is_explained(values: np.ndarray, columns: list[np.ndarray]) -> bool:
    """True for a column that is constant, or a combination of ``columns`` and a constant."""
    centred = values - values.mean()
    size = float(np.linalg.norm(centred))
    if size <= _DEPENDENT * max(float(np.linalg.norm(values)), 1e-300):
        return True
    if not columns:
        return False
    others = np.column_stack([column - column.mean() for column in columns])
    rest = centred - others @ np.linalg.lstsq(others, centred, rcond=None)[0]
    return float(np.linalg.norm(rest)) <= _DEPENDENT * size
