"""One-stage fits straight from rows, for the tests of the engine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cardiometa.pooling.first_stage.arm_sums import OUTCOME, ArmSums, arm_sums, centre, model_block
from cardiometa.statistics.mixed.one_stage import CORRELATED, OneStageFit, fit_one_stage
from cardiometa.statistics.mixed.sufficient_statistics import ModelColumns

TREAT = "arm:active"


def sums_by_trial(people: pd.DataFrame, nuisance: list[str]) -> list[ArmSums]:
    return [
        arm_sums(str(trial), part, nuisance=part[nuisance], control="control")
        for trial, part in people.groupby("trial")
    ]


def fit_of(
    sums: list[ArmSums],
    *,
    residual: str = "by-trial",
    restricted: bool = True,
    centred: bool = False,
    common_effect: bool = False,
    random: str = "effect",
) -> OneStageFit:
    """ANCOVA with stratified nuisance and a random treatment effect.

    ``random`` ``intercept`` or ``correlated``: random trial intercepts, all centred by trial.
    """
    blocks = []
    basis = {"effect": np.ones((1, 1, 1)), "intercept": CORRELATED[:2], "correlated": CORRELATED}
    for one in sums:
        n = one.count("active") + one.count("control")
        stratified = random == "effect"
        columns = ModelColumns(
            nuisance=("", *one.nuisance) if stratified else one.nuisance,
            fixed=(TREAT,) if stratified else (TREAT, ""),
            random=(TREAT,) if stratified else (TREAT, ""),
            outcome=OUTCOME,
        )
        centres = {TREAT: one.count("active") / n} if centred or not stratified else {}
        if not stratified:
            centres |= {name: centre(one, name) for name in one.nuisance}
        blocks.append(model_block(one, columns, residual=residual, centres=centres))
    return fit_one_stage(
        blocks,
        basis[random],
        residual=residual,
        restricted=restricted,
        common_effect=common_effect,
    )
