"""Deaths as the worst outcome: the win odds of the active arm, a death ranked below any survivor.

Worst-rank scores keep everyone whose fate is known in the arm they were randomised to (Lachin 1999,
Control Clin Trials 20:408); deaths are ranked among themselves by their day, the earlier the worse
(the untied scores of Matsouaka & Betensky 2015, Stat Med 34:1334). The Mann-Whitney probability
theta = P(better) + P(equal)/2 has the variance of DeLong et al. 1988 (placements, unequal spreads
allowed); its odds theta/(1 - theta) are pooled as logs (win odds: Brunner, Vandemeulebroecke &
Muetze 2021, Stat Med 40:3367).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ...errors import UsageError
from ..endpoint.analysis_set import Analysed
from ..options import PoolingOptions
from ..results import Study

_LOWER = ("ef_percent", "sv_ml", "svi_ml_m2")
_HIGHER = ("edv_ml", "esv_ml", "edvi_ml_m2", "esvi_ml_m2", "mass_g", "massi_g_m2")
WORSE: Final = MappingProxyType(
    {f"{side}_{name}": "lower" for side in ("lv", "rv") for name in _LOWER}
    | {f"{side}_{name}": "higher" for side in ("lv", "rv") for name in _HIGHER}
    | {"lv_co_l_min": "lower"}
)
ALL_ONE_SIDED = "every one of one arm did better than every one of the other: no finite odds"
_LEAST = 2


def worse_direction(options: PoolingOptions) -> str:
    """``lower`` or ``higher``: which end of the outcome is the bad one; UsageError if not known."""
    known = options.worse or WORSE.get(options.outcome)
    if known is None:
        raise UsageError(
            f"Which values of {options.outcome} are the worse ones is not known.",
            hint="Say --worse lower or --worse higher.",
        )
    return known


def win_odds_studies(trial: Analysed, options: PoolingOptions) -> tuple[Study, ...]:
    """One `Study` for each active arm: the log win odds against the control."""
    score = worst_rank_scores(trial.rows, worse_direction(options))
    arm = trial.rows["arm"].to_numpy()
    died = trial.rows["died"].to_numpy(dtype=bool)
    reference = score[arm == options.control]
    studies = []
    for name in sorted(set(arm) - {options.control}):
        mine = score[arm == name]
        found: tuple[float, float] | str
        if min(len(mine), len(reference)) < _LEAST:
            found = "fewer than two participants in an arm"
        else:
            found = _log_odds(*mann_whitney(mine, reference))
        given = found if isinstance(found, tuple) else (None, None)
        n_died = int(died[(arm == name) | (arm == options.control)].sum())
        studies.append(
            Study(
                trial=trial.trial,
                arm=name,
                control=options.control,
                estimate=given[0],
                se=given[1],
                n_control=len(reference),
                n_active=len(mine),
                n=len(mine) + len(reference),
                note=found if isinstance(found, str) else "" if n_died else "no deaths recorded",
            )
        )
    return tuple(studies)


def worst_rank_scores(rows: pd.DataFrame, worse: str) -> np.ndarray:
    """Scores ``[n]``, higher is better: deaths first by day, then the living by outcome."""
    died = rows["died"].to_numpy(dtype=bool)
    value = rows["outcome"].to_numpy(dtype=float) * (1.0 if worse == "lower" else -1.0)
    score = np.empty(len(rows))
    if died.any():
        score[died] = rankdata(rows["death_day"].to_numpy(dtype=float)[died], method="dense")
    score[~died] = len(rows) + rankdata(value[~died], method="dense")
    return score


def mann_whitney(active: np.ndarray, control: np.ndarray) -> tuple[float, float]:
    """P(active better) + P(equal)/2 and its standard error (DeLong, placements by midranks)."""
    n, m = len(active), len(control)
    together = rankdata(np.concatenate([active, control]))
    above = (together[:n] - rankdata(active)) / m
    below = (together[n:] - rankdata(control)) / n
    theta = float(above.mean())
    variance = above.var(ddof=1) / n + below.var(ddof=1) / m
    return theta, float(np.sqrt(variance))


def _log_odds(theta: float, se: float) -> tuple[float, float] | str:
    if theta in (0.0, 1.0):
        return ALL_ONE_SIDED
    if se == 0:
        return "all outcomes are equal: no standard error"
    return float(np.log(theta / (1.0 - theta))), se / (theta * (1.0 - theta))
