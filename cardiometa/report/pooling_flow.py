"""The flow of trials and participants into one pooled analysis, after PRISMA-IPD."""

from __future__ import annotations

from ..pooling.records import FlowCounts, PoolingResult
from ..records import Figure
from .flow_figure import Box, boxes_figure
from .numbers import shown_count
from .pooling_tables import excluded_reasons


def pooling_flow(result: PoolingResult) -> Figure | None:
    """The diagram; None for summaries and files of sites, which name nobody."""
    flow = result.flow
    if flow is None:
        return None
    return boxes_figure(
        [
            (
                Box(
                    title="Individual participant data sought",
                    lines=_lines(flow.sought_trials, flow.sought_participants) or ("not stated",),
                ),
                _not_provided(flow, result.options.min_cell),
            ),
            (
                Box(
                    title="Individual participant data provided",
                    lines=_lines(flow.provided_trials, flow.provided_participants),
                ),
                _left_out(flow, result),
            ),
            (Box(title="Analysed", lines=(result.endpoint, *_analysed(flow))), None),
        ],
        "Flow of trials and participants",
    )


def _lines(trials: int | None, people: int | None) -> tuple[str, ...]:
    parts = ((trials, "trial"), (people, "participant"))
    return tuple(
        f"{shown_count(count)} {name}{'' if count == 1 else 's'}"
        for count, name in parts
        if count is not None
    )


def _not_provided(flow: FlowCounts, least: int) -> Box | None:
    """Of trials alone, and of people where so many are missing that nobody can be known."""
    trials = None if flow.sought_trials is None else flow.sought_trials - flow.provided_trials
    people = (
        None
        if flow.sought_participants is None
        else flow.sought_participants - flow.provided_participants
    )
    lines = _lines(trials or None, people if people is not None and people >= least else None)
    return Box(title="Not provided", lines=lines) if lines else None


def _left_out(flow: FlowCounts, result: PoolingResult) -> Box | None:
    reasons = excluded_reasons(result)
    if not reasons:
        return None
    trials = flow.provided_trials - flow.analysed_trials
    lines = [f"{sentence.rstrip('.')}: {count}" for sentence, count in reasons]
    return Box(title="Not analysed", lines=(*_lines(trials or None, None), *lines))


def _analysed(flow: FlowCounts) -> tuple[str, ...]:
    own = ", ".join(_lines(flow.analysed_trials, flow.analysed_participants))
    if not flow.aggregate_trials:
        return _lines(flow.analysed_trials, flow.analysed_participants)
    more = ", ".join(_lines(flow.aggregate_trials, flow.aggregate_participants))
    return (f"participants' data: {own}", f"published effects: {more}")
