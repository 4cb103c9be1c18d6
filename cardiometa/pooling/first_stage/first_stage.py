"""From a table to one `Study` per trial and arm, with every participant accounted for.

Missing outcomes may be imputed within trial and arm by a proper Bayesian normal regression: among
those who have it the outcome is regressed on baseline and covariates; a residual variance, then
coefficients, then outcomes are drawn (Rubin 1987, p. 167; the ``norm`` method of R's mice). Within
the arm, because the effect must be free to differ; within the trial, because trials differ. Each
completed trial is fitted and the estimates are combined by Rubin's rules before any pooling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...errors import EstimationError, Problem, TableError, UsageError
from ...records import CohortTable
from ..endpoint.analysis_set import (
    Analysed,
    analysed_trials,
    classify,
    design_of,
    in_two_arms,
)
from ..endpoint.columns import KEY, each_trial, number_column, present
from ..endpoint.endpoint import Endpoint, build_endpoint
from ..options import EVENTS, WIN_ODDS, PoolingOptions
from ..results import Accounting, Study, natural
from .arm_sums import ArmSums
from .events import independent
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
_TOO_FEW = "too few outcomes in an arm to impute: complete cases"
_LEAST_DF = 2


def _completed(
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
        have, lack = mine[known[mine].notna()], mine[known[mine].isna()]
        if not len(lack):
            continue
        # One generator per trial and arm, so that draws do not depend on which others there are.
        digest = hashlib.sha256(f"{trial.trial}\x1f{name}".encode()).digest()
        found = draw_outcomes(
            known[have].to_numpy(dtype=float),
            model.loc[have].to_numpy(dtype=float),
            model.loc[lack].to_numpy(dtype=float),
            imputations=options.imputations,
            generator=np.random.default_rng([options.seed, int.from_bytes(digest[:8], "big")]),
        )
        if found is None:
            return None
        draws[str(name)] = found

    def copy(number: int) -> Analysed:
        values = known.astype(float).copy()
        for name, found in draws.items():
            values.loc[values.index[(arm == name) & known.isna()]] = found[number]
        if options.effect == "change":
            values = values - trial.rows["baseline"]
        return replace(trial, rows=trial.rows.assign(outcome=values))

    return map(copy, range(options.imputations))


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
    keep, _ = independent(x)
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


def _impute(
    people: pd.DataFrame, endpoint: Endpoint, options: PoolingOptions
) -> tuple[pd.DataFrame, list[Analysed], list[Study]]:
    """Impute within each trial and arm, fit each completed trial, combine by Rubin's rules.

    ``people`` as `classify` gives it; returned with the codes after imputation. A trial with too
    few outcomes in an arm stays with its complete cases, and its study says so.
    """
    codes = ["no-followup", "no-outcome"] + ["died"] * (options.estimand == "hypothetical")
    wanted = people["code"].isin(codes)
    if options.effect == "change":
        wanted &= people["baseline"].notna()
    # Predictors: baseline and covariates, the trial's mean where one is missing.
    people = people.sort_values(KEY)  # draws do not depend on the order of the rows
    design = design_of(people, endpoint, replace(options, effect="mean-difference"))
    means = design.groupby(people["trial"], observed=True).transform("mean")
    model = design.fillna(means).fillna(0.0)

    def fit(trial: Analysed) -> list[Study]:
        full = [trial] if len(trial.rows) else []
        return studies_of(full, sums_of(full, options), options)

    studies: list[Study] = []
    trials: list[Analysed] = []
    code = people["code"].copy()
    widened = people.assign(code=people["code"].mask(wanted, ""))
    for trial in analysed_trials(widened, endpoint, options):
        known = people.loc[trial.rows.index, "outcome"]
        copies = _completed(trial, known, model, options) if known.isna().any() else None
        if copies is not None:
            code.loc[trial.rows.index] = ""
            studies += _combine_sets([fit(one) for one in copies], IMPUTED)
            trials.append(trial)
            continue
        have = known.notna().to_numpy(dtype=bool)
        note = "" if have.all() else _TOO_FEW
        kept = replace(trial, rows=trial.rows[have], nuisance=trial.nuisance[have])
        trials += [kept] if len(kept.rows) else []
        studies += [replace(s, note="; ".join(filter(None, (note, s.note)))) for s in fit(kept)]
    return people.assign(code=code).sort_index(), trials, studies


def _combine_sets(sets: Sequence[Sequence[Study]], note: str) -> list[Study]:
    """The studies of several completed data sets combined by trial and arm."""
    grouped: dict[tuple[str, str], list[Study]] = {}
    for studies in sets:
        for study in studies:
            grouped.setdefault((study.trial, study.arm), []).append(study)
    return [
        combine(found, note) if len(found) == len(sets) else found[0] for found in grouped.values()
    ]


# ------------------------------------------------------------------ the stage


NOBODY = "no participant analysed in one of the arms"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """The studies of every active arm, and who went into them.

    ``studies`` maps each active arm to its trials in order of name; ``people`` has one row a
    participant with ``code`` (empty: analysed); ``trials`` are the analysed (their rows where
    `first_stage` keeps them), ``sums`` theirs (none where outcomes are imputed); ``imputations``
    how many data sets were combined, 0 for none.
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
        counts = {str(code): int(n) for code, n in codes.value_counts().items() if n}
        return Accounting(
            participants=len(codes),
            analysed=counts.pop("", 0),
            excluded=dict(sorted(counts.items())),
        )


def first_stage(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None = None,
    endpoint: Endpoint | None = None,
    *,
    with_rows: bool = False,
) -> FirstStage:
    """Every trial's effect from its own model; the trials' rows only where they are needed again.

    Raises TableError for input that cannot be compared and EstimationError where no trial gives
    an estimate, with each trial's reason.
    """
    if endpoint is None:
        endpoint = build_endpoint(table, options, roster)
    people = classify(endpoint, options)
    with_rows = with_rows or bool(options.by) or options.effect in (*EVENTS, WIN_ODDS)
    sums: list[ArmSums] = []
    trials: list[Analysed] = []
    each: list[Study] = []
    if options.missing_outcome == "impute":
        people, trials, each = _impute(people, endpoint, options)
    else:
        for trial in analysed_trials(people, endpoint, options):
            own = sums_of([trial], options)
            sums += own
            each += studies_of([trial], own, options)
            trials.append(trial if with_rows else trial.without_rows())
    found = {(study.arm, study.trial): study for study in each}
    studies = _by_arm(people, found, options)
    # Those whose arm, or whose entire trial, gives no estimate are not analysed.
    given = {(trial, arm) for (arm, trial), study in found.items() if study.estimable}
    given |= {(trial, options.control) for trial, _ in given}
    by_trial, arms = people["trial"].cat, people["arm"].cat
    gives = np.array([[(t, arm) in given for arm in arms.categories] for t in by_trial.categories])
    lost = (people["code"] == "") & ~gives[by_trial.codes, arms.codes]
    stage = FirstStage(
        endpoint=endpoint,
        people=people.assign(code=people["code"].mask(lost, "trial-not-estimable")),
        trials=tuple(trials),
        sums=tuple(sums),
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
    sizes: dict[tuple[str, str], int] = {}
    for trial, part in each_trial(in_two_arms(people[["trial", "arm", "code"]])):
        counts = part.loc[part["code"] == "", "arm"].value_counts()
        sizes |= {(trial, arm): int(counts.get(arm, 0)) for arm in present(part["arm"])}
    pairs = [(arm, trial) for trial, arm in sizes]
    studies: dict[str, tuple[Study, ...]] = {}
    for arm, trial in sorted(pairs, key=lambda pair: (pair[0], natural(pair[1]))):
        if arm != options.control:
            n = tuple(sizes.get((trial, name), 0) for name in (options.control, arm))
            note = NOBODY if any(n) else "no participant analysed in either arm"
            empty = Study.of_rows((trial, arm, options.control), (n[0], n[1]), note)
            studies[arm] = (*studies.get(arm, ()), found.get((arm, trial), empty))
    return studies


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


# ------------------------------------------------------------------ imputations made elsewhere

IMP = ".imp"


def analysis_stage(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None = None,
    endpoint: Endpoint | None = None,
) -> FirstStage:
    """The first stage of a table, or of each of its imputed copies (column ``.imp``) combined.

    ``endpoint`` saves building it again, where an analysis of the same rows and covariates has it.
    """
    if IMP not in table.rows:
        return first_stage(table, options, roster, endpoint)
    copies = imputed_copies(table)
    if options.by or options.model == "one-stage":
        raise UsageError(
            f"{'--by' if options.by else '--model one-stage'} does not go with imputed outcomes "
            "in this version."
        )
    if options.missing_outcome == "impute":
        raise TableError(
            f"The table has imputations ({IMP}): --missing-outcome impute does not go with it.",
            hint=f"Leave the option out, or give the table without the copies of {IMP} above 0.",
        )
    stages = [first_stage(copy, options, roster) for copy in copies.values()]
    sets = [[study for members in s.studies.values() for study in members] for s in stages]
    found = {(s.arm, s.trial): s for s in _combine_sets(sets, "given imputations")}
    studies = {
        arm: tuple(found[arm, study.trial] for study in members)
        for arm, members in stages[0].studies.items()
    }
    stage = replace(stages[0], studies=studies, imputations=len(stages))
    before = original(table)
    if before is None:
        return stage
    # What was missing stays known: the table by arm and the delta-adjusted analysis need it.
    unfilled = build_endpoint(before, options, roster).people
    keys = dict.fromkeys(KEY, "str")
    outcome = (
        stage.people[KEY]
        .astype(keys)
        .merge(unfilled[[*KEY, "outcome"]].astype(keys), on=KEY, how="left")
    )
    outcomes = stage.people["outcome"].mask(outcome["outcome"].isna())
    return replace(stage, people=stage.people.assign(outcome=outcomes))


def original(table: CohortTable) -> CohortTable | None:
    """The data as they were before imputation (``.imp`` 0); None where they are not given."""
    if IMP not in table.rows:
        return table
    number = number_column(table.rows, IMP)
    return replace(table, rows=table.rows[number == 0]) if (number == 0).any() else None


def first_copy(table: CohortTable) -> CohortTable:
    """A table that has every participant once: the data as they were, else the first copy."""
    before = original(table)
    return before if before is not None else next(iter(imputed_copies(table).values()))


def imputed_copies(table: CohortTable) -> dict[int, CohortTable]:
    """Each completed copy by its number (mice's long form); TableError unless rows agree."""
    number = number_column(table.rows, IMP)
    where = f"column {IMP}"
    problems = []
    if number.isna().any():
        problems.append(Problem(where=where, what="some cells are empty"))
    if ((number < 0) | (number % 1 != 0)).any():
        problems.append(Problem(where=where, what="some values are not whole numbers"))
    chosen = sorted({int(n) for n in number[(number >= 1) & (number % 1 == 0)]})
    if len(chosen) < 2:
        what = f"it has {len(chosen)} completed cop{'y' if len(chosen) == 1 else 'ies'}"
        why = "The variance between imputations needs two or more."
        problems.append(Problem(where=where, what=what, why=why))
    copies = {n: replace(table, rows=table.rows[number == n]) for n in chosen}
    names = [name for name in (*KEY, "visit") if name in table.rows]
    keys = {
        n: sorted(zip(*(copy.rows[name].astype(str) for name in names), strict=True))
        for n, copy in copies.items()
    }
    problems += [
        Problem(
            where=f"{IMP} {n}",
            what=f"its rows are not those of {IMP} {chosen[0]}",
            why="Each copy must have the same participants and visits.",
        )
        for n in chosen[1:]
        if keys[n] != keys[chosen[0]]
    ]
    if problems:
        raise TableError(f"The imputations of the column {IMP} cannot be used.", problems=problems)
    return copies
