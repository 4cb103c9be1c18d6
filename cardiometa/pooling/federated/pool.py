"""Pooling the files of sites: the same rows as from the participants, from their sums alone."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import EstimationError, UsageError
from ...records import SeriousWarning
from ..first_stage.arm_sums import effects_of_trial
from ..methods import interaction_sentence, one_stage_sentence, second_stage_sentence
from ..options import PoolingOptions
from ..pool import pool
from ..results import PoolingResult, Study, natural
from .site import SiteSummary, join_sites, options_of


def pool_sites(
    sites: Sequence[SiteSummary], options: PoolingOptions, *, asked: Sequence[str] = ()
) -> PoolingResult:
    """Pool sites' files; what the sums are of comes from the files, the second stage from here.

    ``asked`` names options that the user gave although the files decide them: UsageError where
    they say something else.
    """
    joined = join_sites(sites)
    chosen = options_of(joined.model, options)
    other = [n for n in asked if getattr(options, n) != getattr(chosen, n)]
    if other:
        raise UsageError(
            f"The sites' files were made with other values of {', '.join(other)}.",
            hint="Leave these options out: the files decide them.",
        )
    studies: dict[str, list[Study]] = {}
    for sums in sorted(joined.trials, key=lambda one: natural(one.trial)):
        for study in effects_of_trial(sums):
            studies.setdefault(study.arm, []).append(study)
    studies = {
        arm: members
        for arm, members in sorted(studies.items())
        if any(study.estimable for study in members)
    }
    if not studies:
        raise EstimationError("No trial of the sites gives an effect.")
    mixed = [
        SeriousWarning(f"The sites mix values of {name}: {', '.join(values)}.")
        for name, values in joined.conventions.items()
        if len(values) > 1
    ]
    return pool(
        studies,
        chosen,
        sums=joined.trials,
        modifiers={arm: [m for m in joined.modifiers if m.arm == arm] for arm in studies},
        warnings=(
            (),
            [*(SeriousWarning(f"A site refused: {text}") for text in joined.refused), *mixed],
        ),
        conventions=joined.conventions,
        name=f"{len(sites)} site{'s' if len(sites) != 1 else ''}",
        methods=_methods(chosen, len(sites)),
        endpoint=f"{chosen.outcome} at {chosen.followup_visit or 'the follow-up'}",
    )


def _methods(options: PoolingOptions, count: int) -> str:
    parts = [
        f"Sums by trial and arm of {count} sites were pooled; no participant's values left a site. "
        f"Each trial's model of {options.outcome} ({options.effect}"
        + (f", adjusted for {', '.join(options.adjust)}" if options.adjust else "")
        + ") is the same function of its sums as of its rows."
    ]
    if options.model != "one-stage":
        parts.append(second_stage_sentence(options))
    if options.model != "two-stage":
        parts.append(one_stage_sentence(options))
    if options.by:
        parts.append(interaction_sentence(options))
    return " ".join(parts)
