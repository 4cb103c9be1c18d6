"""One cell with its limits: estimated, without each trial, and as they may be printed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from ..disclosure import released
from ..options import LimitsRule, ReferenceOptions
from .groups import Cell
from .limits import Limit, LimitRequest, default_rule, estimate_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCell:
    """A cell; ``rule`` None and no limits where it has too few people, or they are ``withheld``.

    ``limits`` are exact and stay inside the program; ``printed`` is for the outputs. ``without``
    maps each trial of the cell to the limits of the others by the same rule, where they are enough.
    """

    cell: Cell
    rule: LimitsRule | None
    limits: tuple[Limit, ...] = ()
    printed: tuple[Limit, ...] = ()
    without: Mapping[int, tuple[Limit, ...]]
    withheld: bool = False


def fit_cell(
    measure: str, cell: Cell, options: ReferenceOptions, *, without_trials: bool = True
) -> FittedCell:
    """The limits of a cell by the options' rule."""
    if cell.n < options.smallest_n:
        return FittedCell(cell=cell, rule=None, without={})
    rule = rule_for(cell.n, options)
    request = request_for(measure, cell, options)
    limits = estimate_limits(cell.ordered, rule, request)
    return FittedCell(
        cell=cell,
        rule=rule,
        limits=limits,
        printed=limits if options.internal else released(limits),
        without=_without_each(cell, rule, request, options) if without_trials else {},
    )


def rule_for(n: int, options: ReferenceOptions) -> LimitsRule:
    """The rule asked for by name, or the default one for so many people."""
    return options.limits or default_rule(n, outer_centiles(options))


def outer_centiles(options: ReferenceOptions) -> tuple[float, ...]:
    """The limits proper: the centiles without the middle."""
    return tuple(c for c in options.centiles if c != 50)


def request_for(measure: str, cell: Cell, options: ReferenceOptions) -> LimitRequest:
    """What to estimate, with a seed of the cell's own: other cells and their order play no part."""
    text = f"{options.seed}/{measure}/{cell.key.text()}"
    return LimitRequest(
        centiles=options.centiles,
        ci_level=options.ci_level / 100,
        bootstrap=options.bootstrap,
        seed=zlib.crc32(text.encode()),
        person=cell.person,
    )


def point_request(request: LimitRequest) -> LimitRequest:
    """The same without a bootstrap: for limits that are printed without an interval."""
    return LimitRequest(
        centiles=request.centiles, ci_level=request.ci_level, bootstrap=0, seed=request.seed
    )


def _without_each(
    cell: Cell, rule: LimitsRule, request: LimitRequest, options: ReferenceOptions
) -> dict[int, tuple[Limit, ...]]:
    """The cell's rule is kept, so that the span is the trial's doing and not the method's."""
    found = {}
    for trial in cell.trial_counts:
        others = cell.ordered[cell.trial != trial]
        if cell.n - cell.trial_counts[trial] >= options.smallest_n:
            found[trial] = estimate_limits(others, rule, point_request(request))
    return found
