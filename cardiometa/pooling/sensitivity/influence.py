"""What single trials do to the pooled effect, as rows of ``influence.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...statistics.meta import LEAST_TRIALS_influence as LEAST_TRIALS
from ...statistics.meta import influence
from ..options import PoolingOptions
from ..results import EffectRow, InfluenceRow, Study
from ..second_stage.two_stage import estimates_of


def influence_rows(
    studies: Sequence[Study], shown: Sequence[EffectRow], options: PoolingOptions
) -> list[InfluenceRow]:
    """The deletion measures of one arm's trials; none below three.

    ``shown`` are the rows of ``effects.csv`` as released: a trial whose effect is not shown there
    is not shown here.
    """
    usable = [study for study in studies if study.estimable]
    if len(usable) < LEAST_TRIALS:
        return []
    hidden = {row.trial: row.note for row in shown if row.analysis == "trial" and row.se is None}
    rows = []
    for study, one in zip(usable, influence(*estimates_of(usable), options.tau2), strict=True):
        row = InfluenceRow(
            outcome=options.outcome,
            effect=options.effect,
            arm=study.arm,
            control=study.control,
            trial=study.trial,
            k=len(usable),
        )
        if study.trial in hidden:
            rows.append(replace(row, note=hidden[study.trial]))
            continue
        cells = {name: getattr(one, name) for name in one.__slots__}
        rows.append(replace(row, **cells))
    return rows
