"""Who is analysed: one reason for each participant who is not, so that the accounting closes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...cohort.parsing import as_numbers
from ...records import Exclusion
from ..options import EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from .arms import arms_by_trial
from .endpoint import KEY, Endpoint

SENTENCES = {
    "not-randomised": "The participant was not randomised.",
    "no-arm": "The arm is not known.",
    "one-arm-trial": "All randomised participants of the trial are in one arm.",
    "died": "The participant died before the follow-up scan.",
    "no-followup": "There is no usable scan at the follow-up.",
    "no-outcome": "The outcome is missing at the follow-up.",
    "no-baseline": "The baseline value is missing.",
    "no-covariate": "A covariate of the model is missing.",
    "trial-not-estimable": "The trial's data cannot give an effect.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """The analysed participants of one trial.

    ``rows`` has ``arm`` and ``outcome``, ``nuisance`` the baseline and covariates as numbers on
    the same index, complete; ``imputed`` counts values replaced by the trial's mean by column.
    """

    trial: str
    rows: pd.DataFrame
    nuisance: pd.DataFrame
    imputed: Mapping[str, int]


def classify(endpoint: Endpoint, options: PoolingOptions) -> pd.DataFrame:
    """``people`` with a column ``code``: empty for those analysed, else the first reason."""
    people = endpoint.people.copy()
    people["code"] = ""

    def mark(where: pd.Series[bool], code: str) -> None:
        people.loc[where & (people["code"] == ""), "code"] = code

    mark(people["randomised"].map(lambda item: item is False), "not-randomised")
    mark(people["arm"] == "", "no-arm")
    single = {trial for trial, names in arms_by_trial(people).items() if len(names) < 2}
    mark(people["trial"].isin(single), "one-arm-trial")
    ranked = people["died"] & (options.effect == WIN_ODDS)
    if options.effect not in EVENTS:
        mark(people["died"] & ~ranked, "died")
    mark(~people["scanned"] & ~ranked, "no-followup")
    mark(people["outcome"].isna() & ~ranked, "no-outcome")
    complete = options.missing_baseline == "complete"
    standardised = options.effect == STANDARDISED and endpoint.has_baseline
    if options.effect == "change" or (
        complete and (options.effect == "mean-difference" or standardised)
    ):
        mark(people["baseline"].isna(), "no-baseline")
    if complete:
        for name in endpoint.covariates:
            mark(people[f"covariate {name}"] == "", "no-covariate")
    return people


def analysed_trials(
    people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions
) -> tuple[Analysed, ...]:
    """The analysed rows of every trial with their nuisance columns, trials in order of name.

    A missing baseline or covariate is replaced by the mean of all randomised participants of the
    trial, both arms together (White & Thompson 2005): valid because it cannot depend on the arm.
    """
    eligible = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
    design = design_of(eligible, endpoint, options)
    chosen = []
    for trial, part in people[people["code"] == ""].groupby("trial", sort=True):
        everyone = design.loc[eligible.index[eligible["trial"] == trial]]
        mine = design.loc[part.index]
        imputed = {
            str(name): int(mine[name].isna().sum())
            for name in mine.columns
            if everyone[name].notna().any()
        }
        # A column without any value in this trial becomes constant, and is absorbed as such.
        filled = mine.fillna(everyone.mean()).fillna(0.0)
        own = [name for name in ("time", "died", "death_day", "cluster") if name in part]
        rows = part[[*KEY, "arm", "outcome", "baseline", *own]].copy()
        if options.effect == "change":
            rows["outcome"] = rows["outcome"] - rows["baseline"]
        chosen.append(
            Analysed(
                trial=str(trial),
                rows=rows,
                nuisance=filled,
                imputed={name: count for name, count in imputed.items() if count},
            )
        )
    return tuple(chosen)


def design_of(people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions) -> pd.DataFrame:
    """Baseline and covariates as numbers, NaN unknown; categories as indicators."""
    columns: dict[str, pd.Series[float]] = {}
    standardised = options.effect == STANDARDISED and endpoint.has_baseline
    if options.effect == "mean-difference" or standardised:
        columns["baseline"] = people["baseline"]
    for name in endpoint.covariates:
        text = people[f"covariate {name}"]
        numbers = covariate_numbers(text)
        if numbers is not None:
            columns[name] = numbers
            continue
        for level in sorted(set(text) - {""})[1:]:
            indicator = (text == level).astype(float)
            columns[f"{name}={level}"] = indicator.where(text != "", np.nan)
    return pd.DataFrame(columns, index=people.index, dtype=float)


def covariate_numbers(text: pd.Series[str]) -> pd.Series[float] | None:
    """A covariate that enters linearly; None where it has words and enters as categories."""
    numbers, wrong = as_numbers(text)
    return None if wrong.any() else numbers


def participant_exclusions(people: pd.DataFrame) -> tuple[Exclusion, ...]:
    """One exclusion for each participant who is not analysed."""
    out = people[people["code"] != ""]
    return tuple(
        Exclusion(
            stage="participant",
            trial=trial,
            participant_id=participant,
            visit=visit,
            code=code,
            sentence=SENTENCES[code],
        )
        for trial, participant, visit, code in zip(
            *(out[name] for name in (*KEY, "visit", "code")), strict=True
        )
    )
