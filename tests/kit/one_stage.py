"""One-stage fits straight from rows, for the tests of the engine."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cardiometa.estimation.blocks import ModelColumns
from cardiometa.estimation.one_stage import OneStageFit, fit_one_stage
from cardiometa.pooling.arm_sums import OUTCOME, ArmSums, arm_sums, model_block

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
) -> OneStageFit:
    """ANCOVA with stratified nuisance and a random treatment effect."""
    blocks = []
    for one in sums:
        n = one.count("active") + one.count("control")
        columns = ModelColumns(
            nuisance=("", *one.nuisance), fixed=(TREAT,), random=(TREAT,), outcome=OUTCOME
        )
        centres = {TREAT: one.count("active") / n} if centred else {}
        blocks.append(model_block(one, columns, residual=residual, centres=centres))
    return fit_one_stage(
        blocks,
        np.ones((1, 1, 1)),
        residual=residual,
        restricted=restricted,
        common_effect=common_effect,
    )
