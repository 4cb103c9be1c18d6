"""Rubin's rules: estimates of imputed data sets combined within a trial, before any pooling.

Missing outcomes imputed within trial and arm by a proper Bayesian normal regression.

For each trial and arm the outcome is regressed on baseline and covariates among those who have it;
a residual variance, then coefficients, then outcomes are drawn (Rubin 1987, p. 167; the ``norm``
method of R's mice). Within the arm, because the effect must be free to differ; within the trial,
because its people are its own. One generator a trial and arm, so that no trial's draws hang on
which others there are.

The first stage on imputed data: a model in each completed data set, Rubin, then one study.

From a table to one `Study` per trial and arm, with everyone accounted for.

Imputations made elsewhere: a table with a column ``.imp`` (mice's long form).

``.imp`` 0 is the data as they were, 1 to m the completed copies. Each copy is analysed as a table
of its own; the trials' estimates are combined by Rubin's rules before pooling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...errors import EstimationError, Problem, TableError
from ...records import CohortTable
from ..endpoint.analysis_set import Analysed, analysed_trials, classify, design_of, with_deaths
from ..endpoint.columns import KEY, number_column
from ..endpoint.endpoint import Endpoint, build_endpoint
from ..options import EVENTS, PoolingOptions
from ..results import Accounting, Study, natural
from .arm_sums import ArmSums
from .trial_models import studies_of, sums_of

# Below this share of missing information the degrees of freedom are as good as complete (mice).
_LEAST_LAMBDA = 1e-4


def barnard_rubin(lam: float, imputations: int, complete_df: float) -> float:
    """Degrees of freedom of a combined estimate (Barnard & Rubin 1999, Biometrika 86:948).

    ``lam`` is (1 + 1/m) B / T; ``complete_df`` those of complete data, infinite for large samples.
    """
    lam = max(lam, _LEAST_LAMBDA)
    old = (imputations - 1) / lam**2
    if math.isinf(complete_df):
        return old
    observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - lam)
    return old * observed / (old + observed)


def combine(studies: Sequence[Study], note: str) -> Study:
    """One trial's estimates from each imputed data set, as one (Rubin 1987, ch. 3).

    A data set that gives no estimate leaves the trial without one: what the others say is then
    of chosen imputations.
    """
    first = studies[0]
    lost = next((study for study in studies if not study.estimable), None)
    if lost is not None:
        return replace(first, estimate=None, se=None, note=lost.note)
    m = len(studies)
    estimates = np.array([study.estimate for study in studies], dtype=float)
    within = float(np.mean([study.se**2 for study in studies if study.se is not None]))
    between = float(estimates.var(ddof=1))
    total = within + (1 + 1 / m) * between
    if between == 0:  # nothing was imputed in this trial
        return first
    spreads = [study.residual_sd for study in studies if study.residual_sd is not None]
    lam = (1 + 1 / m) * between / total
    return replace(
        first,
        estimate=float(estimates.mean()),
        se=math.sqrt(total),
        df=barnard_rubin(lam, m, first.df),
        residual_sd=float(np.mean(spreads)) if spreads else None,
        note="; ".join(part for part in (note, first.note) if part),
    )


IMPUTED = "outcomes imputed"
TOO_FEW = "too few outcomes in an arm to impute: complete cases"
_DEPENDENT = 1e-9
_LEAST_DF = 2


def imputable(people: pd.DataFrame, options: PoolingOptions) -> pd.Series:
    """Who lacks the outcome alone, and is one the estimand is about."""
    codes = ["no-followup", "no-outcome"]
    if options.estimand == "hypothetical":
        codes.append("died")
    wanted = people["code"].isin(codes)
    if options.effect == "change":
        wanted &= people["baseline"].notna()
    return wanted


def predictors(people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions) -> pd.DataFrame:
    """Baseline and covariates of the imputation model; the trial's mean where one is missing."""
    design = design_of(people, endpoint, replace(options, effect="mean-difference"))
    means = design.groupby(people["trial"]).transform("mean")
    return design.fillna(means).fillna(0.0)


def completed(
    trial: Analysed, known: pd.Series, model: pd.DataFrame, options: PoolingOptions
) -> Iterator[Analysed] | None:
    """``options.imputations`` copies of a trial with its missing outcomes drawn.

    ``known`` is the follow-up value (NaN: to draw), ``model`` the predictors, both on the index of
    the trial's rows. None where an arm has too few outcomes to learn a model from.
    """
    arm = trial.rows["arm"]
    draws: dict[str, np.ndarray] = {}
    for name in sorted(set(arm)):
        mine = arm.index[arm == name]
        have = mine[known[mine].notna()]
        lack = mine[known[mine].isna()]
        if not len(lack):
            continue
        seed = _seed(options.seed, trial.trial, str(name))
        found = draw_outcomes(
            known[have].to_numpy(dtype=float),
            model.loc[have].to_numpy(dtype=float),
            model.loc[lack].to_numpy(dtype=float),
            imputations=options.imputations,
            generator=np.random.default_rng(seed),
        )
        if found is None:
            return None
        draws[str(name)] = found
    return (_filled(trial, known, draws, number, options) for number in range(options.imputations))


def _filled(
    trial: Analysed,
    known: pd.Series,
    draws: dict[str, np.ndarray],
    number: int,
    options: PoolingOptions,
) -> Analysed:
    values = known.astype(float).copy()
    for name, found in draws.items():
        lack = values.index[(trial.rows["arm"] == name) & known.isna()]
        values.loc[lack] = found[number]
    if options.effect == "change":
        values = values - trial.rows["baseline"]
    return replace(trial, rows=trial.rows.assign(outcome=values))


def _seed(seed: int, trial: str, arm: str) -> list[int]:
    digest = hashlib.sha256(f"{trial}\x1f{arm}".encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]


def draw_outcomes(
    y: np.ndarray,
    x: np.ndarray,
    x_missing: np.ndarray,
    *,
    imputations: int,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """Draws ``[imputations, n_missing]`` of outcomes given predictors ``[n, p]``, no intercept.

    Columns that are constant or dependent among those observed are left out. None with fewer
    than two residual degrees of freedom.
    """
    keep = _independent(x)
    design = np.column_stack([np.ones(len(y)), x[:, keep]])
    target = np.column_stack([np.ones(len(x_missing)), x_missing[:, keep]])
    df = len(y) - design.shape[1]
    if df < _LEAST_DF:
        return None
    q, r = np.linalg.qr(design)
    beta = np.linalg.solve(r, q.T @ y)
    rss = float(((y - design @ beta) ** 2).sum())
    root = np.linalg.inv(r)  # (X'X)^-1 = root root'
    drawn = np.empty((imputations, len(x_missing)))
    for number in range(imputations):
        sigma = np.sqrt(rss / generator.chisquare(df))
        coefficients = beta + sigma * (root @ generator.standard_normal(len(beta)))
        drawn[number] = target @ coefficients + sigma * generator.standard_normal(len(target))
    return drawn


def _independent(x: np.ndarray) -> list[int]:
    """Columns that are neither constant nor explained by those before them."""
    kept: list[int] = []
    basis: list[np.ndarray] = []
    for place in range(x.shape[1]):
        column = x[:, place] - x[:, place].mean()
        size = float(np.linalg.norm(column))
        for one in basis:
            column = column - (one @ column) * one
        rest = float(np.linalg.norm(column))
        if rest > _DEPENDENT * max(size, float(np.linalg.norm(x[:, place])), 1e-300):
            basis.append(column / rest)
            kept.append(place)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class ImputedStage:
    """Who is analysed once the missing outcomes are imputed, and the combined studies."""

    people: pd.DataFrame
    trials: tuple[Analysed, ...]
    studies: tuple[Study, ...]


def impute_stage(people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions) -> ImputedStage:
    """Impute within each trial and arm, fit each completed trial, combine by Rubin's rules.

    ``people`` as `classify` gives it. A trial with too few outcomes in an arm stays with its
    complete cases, and its study says so.
    """
    wanted = imputable(people, options)
    model = predictors(people, endpoint, options)
    widened = people.assign(code=people["code"].mask(wanted, ""))
    studies: list[Study] = []
    trials: list[Analysed] = []
    code = people["code"].copy()
    for trial in analysed_trials(widened, endpoint, options):
        index = trial.rows.index
        copies = None
        if people.loc[index, "outcome"].isna().any():
            copies = completed(trial, people.loc[index, "outcome"], model, options)
        if copies is None:
            kept, note = _complete_cases(trial, people.loc[index, "outcome"].notna())
            trials += [kept] if len(kept.rows) else []
            studies += [replace(s, note=_joined(note, s.note)) for s in _fit([kept], options)]
            continue
        code.loc[index] = ""
        sets = [_fit([one], options) for one in copies]
        studies += combine_sets(sets, IMPUTED)
        trials.append(trial)
    return ImputedStage(
        people=people.assign(code=code), trials=tuple(trials), studies=tuple(studies)
    )


def combine_sets(sets: Sequence[Sequence[Study]], note: str) -> list[Study]:
    """The studies of several completed data sets combined by trial and arm."""
    grouped: dict[tuple[str, str], list[Study]] = {}
    for studies in sets:
        for study in studies:
            grouped.setdefault((study.trial, study.arm), []).append(study)
    return [
        combine(found, note) if len(found) == len(sets) else found[0] for found in grouped.values()
    ]


def _fit(trials: Sequence[Analysed], options: PoolingOptions) -> list[Study]:
    full = [trial for trial in trials if len(trial.rows)]
    return studies_of(full, sums_of(full, options), options)


def _complete_cases(trial: Analysed, have: pd.Series) -> tuple[Analysed, str]:
    kept = have.to_numpy(dtype=bool)
    if kept.all():
        return trial, ""
    rows, nuisance = trial.rows[kept], trial.nuisance[kept]
    return replace(trial, rows=rows, nuisance=nuisance), TOO_FEW


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


NOBODY = "no participant analysed in one of the arms"


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
    endpoint = with_deaths(build_endpoint(table, options, roster), table, options, roster)
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
    studies = _by_arm(people, found, options)
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


def _by_arm(
    people: pd.DataFrame, found: Mapping[tuple[str, str], Study], options: PoolingOptions
) -> dict[str, tuple[Study, ...]]:
    """Each active arm's trials, those that lost an arm to missing values included."""
    compared = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
    sizes = people[people["code"] == ""].groupby(["trial", "arm"]).size()
    pairs = {(str(a), str(t)) for a, t in zip(compared["arm"], compared["trial"], strict=True)}
    studies: dict[str, tuple[Study, ...]] = {}
    for arm, trial in sorted(pairs, key=lambda pair: (pair[0], natural(pair[1]))):
        if arm != options.control:
            n = tuple(int(sizes.get((trial, name), 0)) for name in (options.control, arm))
            note = NOBODY if any(n) else "no participant analysed in either arm"
            empty = Study.of_rows((trial, arm, options.control), (n[0], n[1]), note)
            studies[arm] = (*studies.get(arm, ()), found.get((arm, trial), empty))
    return studies


def _without_unestimable(
    people: pd.DataFrame, found: Mapping[tuple[str, str], Study], control: str
) -> pd.DataFrame:
    """Those whose arm, or whose entire trial, gives no estimate are not analysed."""
    given = {(trial, arm) for (arm, trial), study in found.items() if study.estimable}
    given |= {(trial, control) for trial, _ in given}
    keys = pd.MultiIndex.from_frame(people[["trial", "arm"]])
    lost = (people["code"] == "") & ~keys.isin(list(given))
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


IMP = ".imp"
GIVEN = "given imputations"
_LEAST = 2


def analysis_stage(
    table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None = None
) -> FirstStage:
    """The first stage of a table, or of each of its imputed copies combined."""
    if IMP not in table.rows:
        return first_stage(table, options, roster)
    copies = imputed_copies(table)
    if options.missing_outcome == "impute":
        raise TableError(
            f"The table holds imputations ({IMP}): --missing-outcome impute does not go with it.",
            hint=f"Leave the option out, or give the table without the copies of {IMP} above 0.",
        )
    stage = _combined([first_stage(copy, options, roster) for copy in copies.values()])
    before = original(table)
    if before is None:
        return stage
    # What was missing stays known: the table by arm and the delta-adjusted analysis need it.
    unfilled = build_endpoint(before, options, roster).people[[*KEY, "outcome"]]
    people = stage.people
    merged = people[KEY].merge(unfilled, on=KEY, how="left")["outcome"]
    merged.index = people.index
    return replace(stage, people=people.assign(outcome=people["outcome"].mask(merged.isna())))


def original(table: CohortTable) -> CohortTable | None:
    """The data as they were before imputation (``.imp`` 0); None where they are not given."""
    if IMP not in table.rows:
        return table
    number = number_column(table.rows, IMP)
    return replace(table, rows=table.rows[number == 0]) if (number == 0).any() else None


def first_copy(table: CohortTable) -> CohortTable:
    """A table that holds every participant once: the data as they were, else the first copy."""
    before = original(table)
    return before if before is not None else next(iter(imputed_copies(table).values()))


def imputed_copies(table: CohortTable) -> dict[int, CohortTable]:
    """Each completed copy by its number; TableError unless they hold the same rows."""
    number = number_column(table.rows, IMP)
    problems = []
    if number.isna().any():
        problems.append(Problem(where=f"column {IMP}", what="some cells are empty"))
    if ((number < 0) | (number % 1 != 0)).any():
        problems.append(Problem(where=f"column {IMP}", what="some values are no whole number"))
    chosen = sorted({int(n) for n in number[(number >= 1) & (number % 1 == 0)]})
    if len(chosen) < _LEAST:
        problems.append(
            Problem(
                where=f"column {IMP}",
                what=f"it holds {len(chosen)} completed cop{'y' if len(chosen) == 1 else 'ies'}",
                why="The spread between imputations needs two or more.",
            )
        )
    copies = {n: replace(table, rows=table.rows[number == n]) for n in chosen}
    keys = {n: _keys(copy.rows) for n, copy in copies.items()}
    problems += [
        Problem(
            where=f"{IMP} {n}",
            what=f"its rows are not those of {IMP} {chosen[0]}",
            why="Each copy must hold the same participants and visits.",
        )
        for n in chosen[1:]
        if keys[n] != keys[chosen[0]]
    ]
    if problems:
        raise TableError(f"The imputations of the column {IMP} cannot be used.", problems=problems)
    return copies


def _keys(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    names = [name for name in (*KEY, "visit") if name in rows]
    return sorted(zip(*(rows[name].astype(str) for name in names), strict=True))


def _combined(stages: list[FirstStage]) -> FirstStage:
    first = stages[0]
    sets = [[study for members in s.studies.values() for study in members] for s in stages]
    found = {(study.arm, study.trial): study for study in combine_sets(sets, GIVEN)}
    studies = {
        arm: tuple(found[arm, study.trial] for study in members)
        for arm, members in first.studies.items()
    }
    return replace(first, studies=studies, imputations=len(stages))
