"""Who is analysed, who is not and why, and what is asked about those who died before the scan.

One reason for each participant who is not analysed, so that the accounting adds up; estimands of
ICH E9(R1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd

from ...errors import TableError, UsageError
from ...privacy.characteristics import MEASURES, PERSON, with_body_size
from ...records import Exclusion
from ..options import EVENTS, STANDARDISED, WIN_ODDS, PoolingOptions
from ..results import ArmCount, natural
from .columns import KEY, covariate_numbers, each_trial, id_column, words_column
from .endpoint import Endpoint, arms_by_trial, is_compared

WORST_RANK = "win odds, deaths the worst rank"
_WORDS = {
    "while-alive": "Estimand: the difference among those alive at the follow-up; it compares "
    "groups that survival may have made unlike, so deaths by arm are given too",
    "hypothetical": "Estimand: the difference had no participant died before the follow-up; those "
    "who died are taken to have had the outcomes of similar survivors.",
    "worst-rank": "Estimand: a death before the follow-up is the worst outcome, an earlier one "
    "the worse (Lachin 1999; Matsouaka & Betensky 2015).",
}


_LOWER = ("ef_percent", "sv_ml", "svi_ml_m2")


_HIGHER = ("edv_ml", "esv_ml", "edvi_ml_m2", "esvi_ml_m2", "mass_g", "massi_g_m2")


WORSE: Final = MappingProxyType(
    {f"{side}_{name}": "lower" for side in ("lv", "rv") for name in _LOWER}
    | {f"{side}_{name}": "higher" for side in ("lv", "rv") for name in _HIGHER}
    | {"lv_co_l_min": "lower"}
)


def worse_direction(options: PoolingOptions) -> str:
    """``lower`` or ``higher``: which end of the outcome is the bad one; UsageError if not known."""
    known = options.worse or WORSE.get(options.outcome)
    if known is None:
        raise UsageError(
            f"Which values of {options.outcome} are the worse ones is not known.",
            hint="Say --worse lower or --worse higher.",
        )
    return known


def with_estimand(options: PoolingOptions, has_summaries: bool) -> PoolingOptions:  # noqa: FBT001
    """The options of the analysis that the estimand asks for; UsageError where it cannot be."""
    if options.estimand != "worst-rank":
        return options
    if has_summaries:
        raise UsageError("--estimand worst-rank cannot be combined with --also-summaries.")
    worse_direction(options)
    return as_worst_rank(options)


def as_worst_rank(options: PoolingOptions) -> PoolingOptions:
    """The worst-rank analysis of the same endpoint."""
    return replace(
        options,
        estimand="worst-rank",
        effect=WIN_ODDS,
        model="two-stage",
        adjust=(),
        by=(),
        spline=0,
        missing_outcome="complete",
    )


def refuse_without_deaths(people: pd.DataFrame, options: PoolingOptions) -> None:
    """TableError where deaths matter to the estimand and none is recorded in any trial."""
    if options.estimand != "while-alive" and not people["deaths_recorded"].any():
        raise TableError(
            f"--estimand {options.estimand} needs to know who died, and no death is recorded.",
            hint="Give the day of death as death_day in the table, or in the participants table "
            "of cohort.toml.",
        )


def estimand_sentence(
    options: PoolingOptions, people: pd.DataFrame, *, worst_rank: bool = False
) -> str:
    """What the effect is an effect of, for the methods; empty where no death is recorded.

    ``worst_rank``: an analysis with deaths as the worst rank is among the rows.
    """
    if options.estimand != "while-alive":
        return _WORDS[options.estimand]
    if not people["deaths_recorded"].any():
        return ""
    also = ", and an analysis in which a death is the worst outcome" if worst_rank else ""
    return f"{_WORDS['while-alive']}{also}."


SENTENCES = {
    "not-randomised": "The participant was not randomised.",
    "no-arm": "The arm is not known.",
    "one-arm-trial": "All randomised participants of the trial are in one arm.",
    "no-control": "No arm of the trial is the control of the other trials.",
    "died": "The participant died before the follow-up scan.",
    "no-followup": "There is no usable scan at the follow-up.",
    "no-outcome": "The outcome is missing at the follow-up.",
    "no-baseline": "The baseline value is missing.",
    "no-covariate": "A covariate of the model is missing.",
    "trial-not-estimable": "The trial's data cannot give an effect.",
}
_CODES = ["", *SENTENCES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """The analysed participants of one trial.

    ``rows`` has ``arm`` and ``outcome``, ``nuisance`` the baseline and covariates as numbers on
    the same index, complete; ``imputed`` counts values replaced by the trial's mean by column;
    ``has_baseline``: any of them has one.
    """

    trial: str
    rows: pd.DataFrame
    nuisance: pd.DataFrame
    imputed: Mapping[str, int]
    has_baseline: bool = False

    def without_rows(self) -> Analysed:
        """The same trial without its rows, which many participants make large."""
        # Copies, because a slice keeps all of the rows in memory.
        rows, nuisance = self.rows.iloc[:0].copy(), self.nuisance.iloc[:0].copy()
        return replace(self, rows=rows, nuisance=nuisance)


def classify(endpoint: Endpoint, options: PoolingOptions) -> pd.DataFrame:
    """``people`` with a column ``code``: empty for those analysed, else the first reason."""
    people = endpoint.people
    codes = np.zeros(len(people), dtype=np.int8)

    def mark(where: pd.Series[bool], code: str) -> None:
        codes[where.to_numpy(dtype=bool) & (codes == 0)] = _CODES.index(code)

    mark(people["randomised"].eq(False), "not-randomised")
    mark(people["arm"] == "", "no-arm")
    arms = arms_by_trial(people)
    mark(people["trial"].isin([t for t, own in arms.items() if len(own) < 2]), "one-arm-trial")
    other = [trial for trial, own in arms.items() if options.control not in own]
    mark(people["trial"].isin(other), "no-control")
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
    return people.assign(code=pd.Categorical.from_codes(codes, pd.Index(_CODES)))


def in_two_arms(people: pd.DataFrame) -> pd.DataFrame:
    """Those of ``people`` (as `classify` gives them) randomised in a trial that is compared."""
    out = people["code"].isin(["not-randomised", "no-arm", "one-arm-trial", "no-control"])
    return people[~out] if out.any() else people


def analysed_trials(
    people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions
) -> Iterator[Analysed]:
    """The analysed rows of one trial after the other, in order of name, with nuisance columns.

    A missing baseline or covariate is replaced by the mean of all randomised participants of the
    trial, both arms together (White & Thompson 2005): valid because it cannot depend on the arm.
    """
    eligible = in_two_arms(people)
    design = design_of(eligible, endpoint, options)
    own = [name for name in ("time", "competing", "died", "death_day", "cluster") if name in people]
    for trial, part in each_trial(eligible):
        is_mine = (part["code"] == "").to_numpy()
        randomised = design.loc[part.index]
        mine = randomised[is_mine]
        if not len(mine):
            continue
        imputed = {
            str(name): int(mine[name].isna().sum())
            for name in mine.columns
            if randomised[name].notna().any()
        }
        # A column without any value in this trial becomes constant, and is absorbed as such.
        filled = mine.fillna(randomised.mean()).fillna(0.0)
        rows = part.loc[is_mine, ["arm", "outcome", "baseline", *own]]
        if options.effect == "change":
            rows["outcome"] = rows["outcome"] - rows["baseline"]
        yield Analysed(
            trial=trial,
            rows=rows,
            nuisance=filled,
            imputed={name: count for name, count in imputed.items() if count},
            has_baseline=bool(rows["baseline"].notna().any()),
        )


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
    return pd.DataFrame(columns, index=people.index, copy=False)


def participant_exclusions(people: pd.DataFrame) -> tuple[Exclusion, ...]:
    """One exclusion for each participant who is not analysed."""
    out = people.loc[people["code"] != "", [*KEY, "visit", "code"]].sort_values(KEY)
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


def compared(people: pd.DataFrame) -> pd.DataFrame:
    """The randomised whose arm is known."""
    chosen = is_compared(people)
    return people if chosen.all() else people[chosen]


def baseline_frame(
    rows: pd.DataFrame,
    people: pd.DataFrame,
    options: PoolingOptions,
    roster: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The analysed of ``people`` for `characteristics`: ``trial, group`` (the arm), variables.

    ``rows`` have every scan once. Measures are those of the baseline visit; what describes the
    person may be in any of their rows, or in the ``roster``.
    """
    analysed = compared(people)
    analysed = analysed[analysed["code"] == ""]
    first = words_column(rows, "visit") == options.baseline_visit
    first &= options.baseline_column is None
    ids = pd.MultiIndex.from_frame(analysed[KEY].astype(str))
    found = pd.DataFrame({"trial": analysed["trial"].astype(str), "group": analysed["arm"]})
    sources: dict[str, list[pd.DataFrame | None]]
    sources = {name: [rows[first], rows[~first], roster] for name in PERSON}
    sources |= {name: [rows[first]] for name in MEASURES}
    for name, frames in sources.items():
        parts = [_by_id(one, name) for one in frames if one is not None and name in one]
        values = pd.concat([part[part.notna() & (part != "")] for part in parts] or [_NONE])
        found[name] = values[~values.index.duplicated()].reindex(ids).array
    if analysed["baseline"].notna().any():
        found[options.outcome] = analysed["baseline"]
    return with_body_size(found.dropna(axis=1, how="all"))


_NONE: Final = pd.Series([], pd.MultiIndex.from_arrays([[], []]), dtype=object)


def _by_id(rows: pd.DataFrame, name: str) -> pd.Series[Any]:
    keys = [words_column(rows, "trial").astype(str), id_column(rows).astype(str)]
    return pd.Series(rows[name].astype(object).array, index=pd.MultiIndex.from_arrays(keys))


def participants_by_arm(people: pd.DataFrame, options: PoolingOptions) -> tuple[ArmCount, ...]:
    """Counts of each arm of each trial: imaging outcomes exist only for those who came.

    ``people`` has ``code`` (empty: analysed) and the columns of `with_deaths`. Who was alive is
    unknown where the trial has no death day at all. An event needs no scan: its rows do not count
    scans. Means of the baseline show whether those not analysed were sicker.
    """
    rows = []
    events = options.effect in EVENTS
    for trial, part in each_trial(compared(people)):
        recorded = bool(part["deaths_recorded"].any())
        withdrawals = bool(part["withdrawal_day"].notna().any())
        for arm, members in part.groupby("arm", sort=True, observed=True):
            analysed, died = members["code"] == "", int(members["died"].sum())
            before, after = members["baseline"].notna(), members["outcome"].notna()
            outcome = members.loc[analysed, "outcome"]
            scans: dict[str, Any] = (
                {}
                if events
                else {
                    "scanned": int(members["came"].sum()),
                    "no_baseline": int((~before).sum()),
                    "paired": int((before & after).sum()),
                    "baseline_only": int((before & ~after).sum()),
                    "followup_only": int((~before & after).sum()),
                    "outcome_mean": _mean(outcome),
                    "outcome_sd": float(outcome.std(ddof=1)) if outcome.notna().sum() > 1 else None,
                }
            )
            rows.append(
                ArmCount(
                    trial=trial,
                    arm=str(arm),
                    randomised=len(members),
                    died=died if recorded else None,
                    withdrew=int(members["withdrew"].sum()) if withdrawals else None,
                    alive=len(members) - died if recorded else None,
                    no_outcome=int((~after).sum()),
                    analysed=int(analysed.sum()),
                    events=int(outcome.sum()) if events else None,
                    n_baseline_others=int((~analysed & before).sum()),
                    baseline_analysed=_mean(members.loc[analysed, "baseline"]),
                    baseline_others=_mean(members.loc[~analysed, "baseline"]),
                    note="" if recorded else "deaths not recorded",
                    deaths_recorded=recorded,
                    **scans,
                )
            )
    return tuple(sorted(rows, key=lambda row: natural(row.trial)))


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if values.notna().any() else None
