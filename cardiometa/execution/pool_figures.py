"""Every figure of ``pool-trials``, and the name of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..pooling.records import PoolingResult
    from ..report.forest import ForestFigure
    from ..report.pooling_page import OtherFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """The figures by what they show, and all of them by the stem of their file."""

    forests: Mapping[str, ForestFigure]
    by_level: Mapping[tuple[str, str], ForestFigure]
    reported: Mapping[str, ForestFigure]
    others: OtherFigures
    files: Mapping[str, ForestFigure]


def draw_figures(result: PoolingResult) -> PoolFigures:
    """Draw whatever the result has."""
    from ..report.pooling_forest import draw_forest
    from ..report.pooling_page import OtherFigures
    from ..report.pooling_reported import compared_arms, draw_comparison
    from ..report.pooling_scatter import draw_funnel, draw_regressions, draw_splines

    forests = {arm: draw_forest(result, arm) for arm in result.arms}
    by_level = _by_level(result)
    reported = {arm: draw_comparison(result, arm) for arm in compared_arms(result)}
    funnels = {arm: draw_funnel(result, arm) for arm in result.arms}
    others = OtherFigures(
        funnels={arm: figure for arm, figure in funnels.items() if figure is not None},
        regressions={
            (arm, covariate): figure
            for arm in result.arms
            for covariate, figure in draw_regressions(result, arm).items()
        },
        splines={
            (arm, covariate): figure
            for arm in result.arms
            for covariate, figure in draw_splines(result, arm).items()
        },
    )
    names = _figure_names(result.arms)
    files = {names[arm]: figure for arm, figure in forests.items()}
    for (arm, term), figure in by_level.items():
        files[f"{names[arm]}-by-{_letters(term.partition(':')[2])}"] = figure
    for arm, figure in reported.items():
        files[f"{names[arm]}-reported"] = figure
    for arm, figure in others.funnels.items():
        files[names[arm].replace("forest", "funnel", 1)] = figure
    for kind, drawn in (("regression", others.regressions), ("spline", others.splines)):
        for (arm, covariate), figure in drawn.items():
            files[f"{names[arm].replace('forest', kind, 1)}-{_letters(covariate)}"] = figure
    return PoolFigures(
        forests=forests, by_level=by_level, reported=reported, others=others, files=files
    )


def _by_level(result: PoolingResult) -> dict[tuple[str, str], ForestFigure]:
    """The two-panel figure of each arm and modifier."""
    from ..report.pooling_levels_figure import draw_levels, modifiers_shown

    drawn = {
        (arm, term): draw_levels(result, arm, term)
        for arm in result.arms
        for term in modifiers_shown(result, arm)
    }
    return {key: figure for key, figure in drawn.items() if figure is not None}


def _figure_names(arms: Sequence[str]) -> dict[str, str]:
    """``forest`` for the only arm, else ``forest-<arm>`` in letters that any system can save."""
    if len(arms) == 1:
        return {arms[0]: "forest"}
    names: dict[str, str] = {}
    for number, arm in enumerate(arms, start=1):
        plain = _letters(arm)
        name = f"forest-{plain or number}"
        names[arm] = name if name not in names.values() else f"{name}-{number}"
    return names


def _letters(text: str) -> str:
    """A name in letters that any system can save."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]
