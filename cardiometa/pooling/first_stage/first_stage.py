"""From a table to one `Study` per trial and arm, with everyone accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ...errors import EstimationError, Problem
from ...records import CohortTable
from ..endpoint.analysis_set import Analysed, analysed_trials, classify
from ..endpoint.endpoint import Endpoint, build_endpoint
from ..endpoint.estimand import with_fate
from ..options import EVENTS, PoolingOptions
from ..results import Accounting, Study
from .arm_sums import ArmSums
from .imputation import impute_stage
from .trial_studies import studies_of, sums_of

NOBODY = "no participant analysed in one of the arms"
NOBODY_AT_ALL = "no participant analysed in either arm"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """The studies of every active arm, and who went into them.

    ``studies`` maps each active arm to its trials in order of name; ``people`` has one row a
    participant with ``code`` (empty: analysed); ``trials`` are the analysed rows, ``sums`` theirs
    (none where outcomes are imputed); ``imputations`` how many data sets were combined, 0 for none.
    """

    endpoint: Endpoint
    people: pd.DataFrame
    trials: tuple[Analysed, ...]
    sums: tuple[ArmSums, ...]
    studies: Mapping[str, tuple[Study, ...]]
    imputations: int = 0

    @property
    def arms(self) -> tuple[str, ...]:
        """The active arms with at least one estimate, in order of name."""
        return tuple(
            arm for arm, studies in self.studies.items() if any(s.estimable for s in studies)
        )

    def accounting(self) -> Accounting:
        """How many participants are analysed, and how many are not by reason."""
        codes = self.people["code"]
        excluded = codes[codes != ""].value_counts().sort_index()
        return Accounting(
            participants=len(codes),
            analysed=int((codes == "").sum()),
            excluded={str(code): int(count) for code, count in excluded.items()},
        )


def first_stage(
    table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None = None
) -> FirstStage:
    """Every trial's effect from its own model.

    Raises TableError for input that cannot be compared and EstimationError where no trial gives
    an estimate, with each trial's reason.
    """
    endpoint = with_fate(build_endpoint(table, options, roster), table, options, roster)
    people = classify(endpoint, options)
    sums: tuple[ArmSums, ...] = ()
    if options.missing_outcome == "impute":
        imputed = impute_stage(people, endpoint, options)
        people, trials = imputed.people, imputed.trials
        each: Sequence[Study] = imputed.studies
    else:
        trials = analysed_trials(people, endpoint, options)
        sums = sums_of(trials, options)
        each = studies_of(trials, sums, options)
    found = {(study.arm, study.trial): study for study in each}
    studies = _with_empty_arms(people, found, options)
    people = _without_unestimable(people, found, options.control)
    stage = FirstStage(
        endpoint=endpoint,
        people=people,
        trials=trials,
        sums=sums,
        studies=studies,
        imputations=options.imputations if options.missing_outcome == "impute" else 0,
    )
    if not stage.arms:
        raise no_effect(studies, options)
    return stage


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Key of an order in which ``T2`` stands before ``T10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def _with_empty_arms(
    people: pd.DataFrame, found: Mapping[tuple[str, str], Study], options: PoolingOptions
) -> dict[str, tuple[Study, ...]]:
    """Each active arm's trials, those that lost an arm to missing values included."""
    compared = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
    pairs = sorted(
        {
            (arm, trial)
            for arm, trial in zip(compared["arm"], compared["trial"], strict=True)
            if arm != options.control
        },
        key=lambda pair: (pair[0], natural(pair[1])),
    )
    studies: dict[str, tuple[Study, ...]] = {}
    for arm, trial in pairs:
        study = found.get((arm, trial)) or _empty(people, trial, arm, options.control)
        studies[arm] = (*studies.get(arm, ()), study)
    return studies


def _empty(people: pd.DataFrame, trial: str, arm: str, control: str) -> Study:
    mine = people[(people["trial"] == trial) & (people["code"] == "")]
    n_control, n_active = ((mine["arm"] == name).sum() for name in (control, arm))
    return Study(
        trial=trial,
        arm=arm,
        control=control,
        estimate=None,
        se=None,
        n_control=int(n_control),
        n_active=int(n_active),
        n=int(n_control + n_active),
        note=NOBODY if n_control or n_active else NOBODY_AT_ALL,
    )


def _without_unestimable(
    people: pd.DataFrame, found: Mapping[tuple[str, str], Study], control: str
) -> pd.DataFrame:
    """Those whose arm, or whose whole trial, gives no estimate are not analysed."""
    given = {(trial, arm) for (arm, trial), study in found.items() if study.estimable}
    given |= {(trial, control) for trial, _ in given}
    keys = list(zip(people["trial"], people["arm"], strict=True))
    lost = (people["code"] == "") & ~pd.Series([key in given for key in keys], index=people.index)
    return people.assign(code=people["code"].mask(lost, "trial-not-estimable"))


def no_effect(studies: Mapping[str, tuple[Study, ...]], options: PoolingOptions) -> EstimationError:
    """The error where no trial can be estimated, with each trial's reason."""
    reasons = [
        Problem(where=f"trial {study.trial}, arm {arm}", what=study.note or NOBODY)
        for arm, members in studies.items()
        for study in members
    ]
    if all("does not vary" in reason.what for reason in reasons):
        hint = f"Is {options.outcome} the right column? All its values in a trial are the same."
    elif options.effect in EVENTS:
        hint = "A risk difference can be had of trials without events."
    else:
        hint = "Fewer covariates in --adjust, or --missing-baseline mean, need fewer people."
    return EstimationError("No trial gives an effect. " + " ".join(map(str, reasons)), hint=hint)
