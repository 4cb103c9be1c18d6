"""``by_trial.csv``: what each trial alone would give, and what is left without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..disclosure import hidden_counts, released
from ..options import ReferenceOptions
from ..results import TrialLimit
from .limits import Limit, estimate_limits
from .stratum_fit import FittedCell, point_request, request_for, rule_for


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """One trial's own limits in a cell."""

    rule: str
    limits: tuple[Limit, ...]
    status: str
    notes: tuple[str, ...]


def trial_limits(
    measure: str,
    unit: str,
    fitted: FittedCell,
    trials: Sequence[str],
    options: ReferenceOptions,
) -> Iterator[TrialLimit]:
    """A row for each trial and centile of a cell that has limits."""
    cell = fitted.cell
    if fitted.rule is None:
        return
    numbers, counts = list(cell.trial_counts), list(cell.trial_counts.values())
    hidden = hidden_counts(counts, cell.n, options.min_cell)
    without = {
        trial: limits if options.internal else released(limits)
        for trial, limits in fitted.without.items()
    }
    own = {trial: _own(measure, fitted, trial, options) for trial in numbers}
    if not options.internal:
        # The limits with and without a few people, taken together, are those people's values; the
        # span would tell one of them too.
        for trial, hide in zip(numbers, hidden, strict=True):
            if hide:
                without.pop(trial, None)
                own[trial] = replace(own[trial], rule="", limits=(), status="suppressed")
    for index, centile in enumerate(options.centiles):
        left = [w[index].limit for w in without.values()]
        known = [limit for limit in left if limit is not None]
        for trial, count, hide in zip(numbers, counts, hidden, strict=True):
            mine = own[trial]
            limit = mine.limits[index] if mine.limits else None
            rest = without.get(trial)
            notes = (*mine.notes, *(limit.notes if limit else ()))
            if hide:
                notes = (*notes, _count_note(count, options))
            yield TrialLimit(
                measure=measure,
                unit=unit,
                sex=cell.key.sex,
                ethnicity=cell.key.ethnicity,
                age_low=cell.key.age_low,
                age_high=cell.key.age_high,
                centile=centile,
                trial=trials[trial],
                n=None if hide else count,
                limits=mine.rule,
                limit=limit.limit if limit else None,
                ci_low=limit.ci_low if limit else None,
                ci_high=limit.ci_high if limit else None,
                ci_level=options.ci_level,
                status="suppressed" if limit is None or limit.limit is None else mine.status,
                n_without=None if hide else cell.n - count,
                limit_without=rest[index].limit if rest else None,
                span_low=min(known) if known else None,
                span_high=max(known) if known else None,
                note="; ".join(dict.fromkeys(notes)),
            )


def _own(measure: str, fitted: FittedCell, trial: int, options: ReferenceOptions) -> _Own:
    cell = fitted.cell
    mine = cell.ordered[cell.trial == trial]
    n = cell.trial_counts[trial]
    rule = rule_for(n, options)
    if n < options.smallest_n:
        return _Own(rule="", limits=(), status="suppressed", notes=(_few_note(n, options),))
    request = point_request(request_for(measure, cell, options))
    limits = estimate_limits(mine, rule, request)
    if cell.person is not None:
        # A rank interval takes values for people's own.
        limits = tuple(replace(found, ci_low=None, ci_high=None) for found in limits)
    return _Own(
        rule=rule,
        limits=limits if options.internal else released(limits),
        status="small-n" if n < 120 else "ok",
        notes=(),
    )


def _few_note(n: int, options: ReferenceOptions) -> str:
    if n < options.min_cell:
        return f"n<{options.min_cell}"
    return f"n<{options.smallest_n}"


def _count_note(count: int, options: ReferenceOptions) -> str:
    return f"n<{options.min_cell}" if count < options.min_cell else "n-withheld"
