"""All rows of an endpoint of events: two-stage, Mantel-Haenszel beside it, Cox in one stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import UsageError
from ..endpoint.analysis_set import Analysed
from ..first_stage.survival import stratified_rows
from ..options import PoolingOptions
from ..results import EffectRow, Study
from .mantel_haenszel import is_sparse, mantel_haenszel_row
from .two_stage import effect_rows

HEADLINE = "Mantel-Haenszel, common effect, no cell corrected (events are few)"


def event_rows(
    trials: Sequence[Analysed], studies: Sequence[Study], options: PoolingOptions
) -> tuple[list[EffectRow], list[str]]:
    """The rows of one active arm and sentences for the report.

    Where events are few (`is_sparse`) the Mantel-Haenszel row is the headline: inverse-variance
    pooling of corrected cells is biased towards no effect (Bradburn et al. 2007).
    """
    if options.effect == "hazard-ratio":
        rows = list(effect_rows(studies, options))
        if options.model == "two-stage":
            return rows, []
        single = stratified_rows(trials, studies, options)
        if options.model == "one-stage" and single:
            rows = [row for row in rows if row.analysis == "trial"]
        return [*rows, *single], []
    if options.model == "one-stage":
        raise UsageError(
            f"--model one-stage is not available for --effect {options.effect}.",
            hint="Use --model two-stage; events that are few are pooled by Mantel-Haenszel.",
        )
    rows = list(effect_rows(studies, options))
    extra = mantel_haenszel_row(studies, options)
    if extra is None:
        return rows, []
    warnings = []
    sparse = is_sparse(studies)
    aggregates = any(study.aggregate and study.estimable for study in studies)
    if sparse and not aggregates and not options.adjust:
        rows = [_not_headline(row) for row in rows]
        rows += _left_out(studies, options)
        extra = replace(extra, headline=True, label="Mantel-Haenszel", note=HEADLINE)
        warnings.append(
            f"{extra.arm}: events are few (half of the trials or more have an arm without any, or "
            "less than 1 % of people had one): the headline is Mantel-Haenszel's common effect; "
            "inverse-variance rows rest on corrected cells and tau2 is hardly known."
        )
    elif sparse:
        warnings.append(
            f"{extra.arm}: events are few: read the Mantel-Haenszel row beside the headline, "
            "which rests on corrected cells."
        )
    return [*rows, extra], warnings


def _not_headline(row: EffectRow) -> EffectRow:
    return replace(row, headline=False) if row.analysis in ("pooled", "leave-one-out") else row


def _left_out(studies: Sequence[Study], options: PoolingOptions) -> list[EffectRow]:
    """Mantel-Haenszel without each trial in turn."""
    usable = [study for study in studies if study.estimable]
    if not options.leave_one_out or len(usable) < 3:
        return []
    rows = []
    for study in usable:
        row = mantel_haenszel_row([other for other in studies if other is not study], options)
        if row is not None:
            rows.append(
                replace(
                    row,
                    analysis="leave-one-out",
                    trial=study.trial,
                    headline=True,
                    note=HEADLINE,
                )
            )
    return rows
