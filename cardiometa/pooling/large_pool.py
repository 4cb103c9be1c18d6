"""Pool a table too large to be held: the same rows as from all participants, from groups of them.

It is chosen for large tables with one row a participant and an analysis that needs no more than
sums; any other table is read whole. What needs each person's row is not done, and the result says
so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..cohort.analysis_table import CONVENTIONS, IMPUTATION, column_rules, lookalikes
from ..cohort.chunks import NotPlainError, header_of, rows_of
from ..cohort.columns import COLUMN_KINDS, kind_of
from ..cohort.participants import resolve_columns
from ..cohort.records import ColumnRule, TableOptions
from ..errors import TableError
from ..measurement.measures import definition
from ..records import Exclusion
from .arms import refuse_without_arms
from .columns import harmonised_name
from .delta import Missing, delta_rows_of, tipping_sentences
from .eligible import SENTENCES, Analysed
from .endpoint import Endpoint
from .first_stage import FirstStage, no_effect
from .flow import flow_counts
from .integrity_cohort import Spread, spread_rows, unit_warnings
from .large_groups import Groups, LargeColumns, ids_of, read_groups
from .large_stage import LargeStage, codes_of, large_by_arm, large_stage
from .multi_arm import JOINT, joint_fit, joint_rows
from .one_stage import OneStage, joint_one_stage_rows
from .options import DIFFERENCES, PoolingOptions
from .pool import (
    JOINT_MODEL,
    SummaryTable,
    both_stages,
    headlines_again,
    influence_of,
    summaries_sentence,
    with_summaries,
)
from .records import Accounting, DeltaRow, EffectRow, IntegrityRow, PoolingResult
from .release import release_counts, release_effects, release_integrity
from .sources import source_rows
from .two_stage import heterogeneity_rows
from .wording import (
    integrity_warning,
    methods_of_rows,
    share_warning,
    stage_warnings,
)

LEAST_ROWS = 1_000_000  # fewer are read whole in some tens of seconds
FOLLOWUP = "the table's one row a participant"
NOT_CHECKED = (
    "The table is large and was read in parts: people with several rows and outcomes in another "
    "unit were looked for, but not copied rows, last digits, dates, allocation, balance of the "
    "baseline, nor who is missing. A sample of the rows can be checked alone."
)
# Columns by which a table has several rows a person, scans to leave out, or deaths.
_NEEDS_ROWS = ("visit", "visit_day", "status", "death_day", "withdrawal_day")
# Options that need no person's row; any other must stand at its default.
_OF_SUMS = frozenset(
    {
        "outcome",
        "effect",
        "baseline_visit",
        "baseline_column",
        "adjust",
        "worse",
        "age_bands",
        "prespecified",
        "model",
        "residual",
        "random_effects",
        "ci_one_stage",
        "tau2",
        "ci",
        "hksj_adhoc",
        "pi_df",
        "control",
        "missing_baseline",
        "imputations",
        "seed",
        "min_cell",
        "leave_one_out",
        "level",
    }
)


def large_columns(
    path: Path, options: PoolingOptions, table_options: TableOptions, least: int | None = None
) -> LargeColumns | None:
    """What to read of a table of ``least`` rows or more; None where it is to be read whole."""
    if not (_needs_sums_alone(options) and table_options.status == "all" and path.is_file()):
        return None
    try:
        if rows_of(path) < (LEAST_ROWS if least is None else least):
            return None
        header = header_of(path)
    except (NotPlainError, OSError):
        return None
    rules, problems = column_rules(table_options)
    found, missing = resolve_columns(_empty(header), rules, tuple(COLUMN_KINDS), path.name)
    numbers: dict[str, ColumnRule] = {"outcome": _plain(options.outcome)}
    if options.baseline_column:
        numbers["baseline"] = _plain(options.baseline_column)
    first: tuple[str, ...] = ("trial", "arm", "randomised")
    categories = {name: found[name] for name in first if name in found}
    for name in map(harmonised_name, options.adjust):
        if kind_of(name) in ("sex", "ethnicity", "text", "id", "boolean"):
            categories[name] = found.get(name, _plain(name))
        else:
            numbers[name] = found.get(name, _plain(name))
    ruled = {rule.column for name, rule in rules.items() if name not in COLUMN_KINDS}
    columns = [rule.column for rule in (*categories.values(), *numbers.values())]
    if (
        problems
        or missing
        or not {"trial", "arm", "participant_id"} <= set(found)
        or set(found) & set(_NEEDS_ROWS)
        or {IMPUTATION, *CONVENTIONS} & set(header)
        or ruled & set(columns)
        or not set(columns) <= set(header)
        or len(set(columns)) < len(columns)
        or any(rule.map is not None for rule in numbers.values())
    ):
        return None
    return LargeColumns(
        path=path,
        participant=found["participant_id"],
        categories=categories,
        numbers=numbers,
        hints=tuple(lookalikes(_empty(header), found)),
    )


def _needs_sums_alone(options: PoolingOptions) -> bool:
    """True where every option that is not its default is one that groups of people can serve."""
    other = [
        item.name
        for item in fields(options)
        if item.name not in _OF_SUMS and getattr(options, item.name) != item.default
    ]
    return (
        not other
        and options.effect in DIFFERENCES
        and bool(options.outcome)
        and (bool(options.baseline_column) or not options.needs_baseline)
    )


def _plain(column: str) -> ColumnRule:
    return ColumnRule(name=column, column=column)


def _empty(header: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=pd.Index(list(header)))


# ------------------------------------------------------------------ the result


def pool_large(
    columns: LargeColumns,
    options: PoolingOptions,
    *,
    summaries: SummaryTable | None = None,
) -> PoolingResult:
    """Pool the trials of a large table; errors as `pool_trials`.

    Raises NotPlainError where the table must be read whole after all.
    """
    groups, held = read_groups(columns, lambda table: codes_of(table, options) != "")
    table = groups.table()
    _refuse_without_arms(table, options)
    if "baseline" in columns.numbers and table["missing baseline"].all():
        raise NotPlainError
    large = large_stage(groups, options)
    stage = _first_stage(groups, large, options)
    if not stage.arms:
        raise no_effect(stage.studies, options)
    studies = with_summaries(stage, summaries, options)
    effects: list[EffectRow] = []
    single: list[OneStage] = []
    for arm in stage.arms:
        rows, one = both_stages(stage, studies[arm], options)
        effects += rows
        single.append(one)
    beside = [row for arm in stage.arms for row in source_rows(studies[arm], options)]
    beside += joint_rows(joint_fit(stage.sums, studies, options), options)
    if options.model != "two-stage":
        beside += joint_one_stage_rows(stage.sums, studies, options)
    if options.effect == "mean-difference" and summaries is None:
        beside += _other_effects(groups, stage.arms, options)
    delta = _delta(large, stage, options)
    integrity = _integrity(groups, large)
    released = release_effects([*effects, *beside], options.min_cell)
    people = large.table.groupby("code")["n"].sum()
    compared = int(
        people.drop(["not-randomised", "no-arm", "one-arm-trial"], errors="ignore").sum()
    )
    analysed = int(people.get("", 0))
    return PoolingResult(
        options=options,
        name=columns.path.stem,
        unit=definition(options.outcome).unit,
        control=options.control,
        arms=stage.arms,
        effects=released,
        heterogeneity=tuple(
            row for arm in stage.arms for row in heterogeneity_rows(studies[arm], options)
        ),
        by_arm=release_counts(large_by_arm(groups, large), options.min_cell),
        integrity=release_integrity(integrity, options.min_cell),
        exclusions=_exclusions(groups, large, held),
        accounting=Accounting(
            participants=int(people.sum()),
            analysed=analysed,
            excluded={str(code): int(n) for code, n in people.items() if code},
        ),
        methods=methods_of_rows(stage, options) + summaries_sentence(summaries),
        warnings=(
            *stage_warnings(replace(stage, studies=studies)),
            *_missing_warnings(large, options),
            *share_warning(analysed, compared, options),
            *(text for one in single for text in one.warnings),
            *unit_warnings(integrity),
            *tipping_sentences(delta, stage.arms, definition(options.outcome).unit),
            *([JOINT_MODEL] if any(row.note.startswith(JOINT) for row in beside) else []),
            *columns.hints,
            NOT_CHECKED,
            *integrity_warning(integrity),
        ),
        endpoint=f"{options.outcome} at {FOLLOWUP}",
        checks=tuple(one.check for one in single if one.check is not None),
        delta=delta,
        influence=influence_of(studies, released, options),
        flow=replace(
            flow_counts(large.table, studies),
            provided_participants=int(people.sum()),
            analysed_participants=analysed,
        ),
    )


def _refuse_without_arms(table: pd.DataFrame, options: PoolingOptions) -> None:
    if "randomised" not in table:
        table = table.assign(randomised=None)
    people = table[["trial", "arm", "randomised", "n"]]
    try:
        refuse_without_arms(people, options)
    except TableError:  # once more, with every person, so that the message counts people
        refuse_without_arms(people.loc[people.index.repeat(people["n"])], options)


def _first_stage(groups: Groups, large: LargeStage, options: PoolingOptions) -> FirstStage:
    """The record that the models and sentences take, without people in it."""
    has = "baseline" in groups.columns.numbers
    endpoint = Endpoint(
        people=pd.DataFrame(),
        covariates=tuple(map(harmonised_name, options.adjust)),
        followup=FOLLOWUP,
        baseline=f"column {options.baseline_column}" if has else options.baseline_visit,
        has_baseline=has,
    )
    trials = tuple(
        Analysed(
            trial=one.trial,
            rows=pd.DataFrame(),
            nuisance=pd.DataFrame(columns=pd.Index(list(large.columns))),
            imputed=dict.fromkeys(large.imputed, 1),
        )
        for one in large.sums
    )
    return FirstStage(
        endpoint=endpoint,
        people=pd.DataFrame(),
        trials=trials,
        sums=large.sums,
        studies=large.studies,
    )


def _other_effects(groups: Groups, arms: Sequence[str], options: PoolingOptions) -> list[EffectRow]:
    """The headline by change and by follow-up only, as beside every ANCOVA."""
    rows: list[EffectRow] = []
    for effect, note in (
        ("change", "sensitivity: change score"),
        ("follow-up", "sensitivity: follow-up only"),
    ):
        other = replace(options, effect=effect)
        stage = _first_stage(groups, large_stage(groups, other), other)
        for arm in stage.arms:
            if arm in arms:
                rows += headlines_again(stage, stage.studies[arm], other, note)
    return rows


def _missing_warnings(large: LargeStage, options: PoolingOptions) -> list[str]:
    table = large.table
    found = []
    single = sorted(set(table.loc[table["code"] == "one-arm-trial", "trial"]))
    if single:
        found.append(f"Left out, because all randomised are in one arm: {', '.join(single)}.")
    if "randomised" in table:
        unknown = table["randomised"].map(lambda item: item is None)
        if unknown.any() and not unknown.all():
            found.append("Participants whose randomised is empty are taken as randomised.")
    if options.effect == "mean-difference":
        summed = table["code"].isin(["", "trial-not-estimable"])
        known = table[summed & ~table["missing baseline"].astype(bool)]
        without = [one.trial for one in large.sums if one.trial not in set(known["trial"])]
        if without:
            found.append(
                f"No analysed participant has a baseline in {', '.join(without)}: the effect there "
                "is not adjusted for it."
            )
    return found


def _delta(large: LargeStage, stage: FirstStage, options: PoolingOptions) -> tuple[DeltaRow, ...]:
    table = large.table[~large.table["code"].isin(["not-randomised", "no-arm"])]
    rows: list[DeltaRow] = []
    for arm in stage.arms:
        missing: dict[str, Missing] = {}
        for trial, part in table[table["arm"] == arm].groupby("trial"):
            n = int(part["n"].sum())
            lacks = int(part.loc[part["missing outcome"].astype(bool), "n"].sum())
            missing[str(trial)] = Missing(share=lacks / n, n=n)
        rows += delta_rows_of(large.studies[arm], missing, options)
    return tuple(rows)


def _integrity(groups: Groups, large: LargeStage) -> tuple[IntegrityRow, ...]:
    """The spread of each trial's outcome, and one row for what was not checked."""
    known = ~large.table["missing outcome"].astype(bool)
    table = large.table[known & ~large.table["code"].isin(["not-randomised", "no-arm"])]
    spreads: dict[str, Spread] = {}
    for trial, part in table.groupby("trial"):
        at = part.index.to_numpy(dtype=int)
        n, mean = groups.n[at], groups.means[at, 0]
        squares = float(groups.products[at, 0, 0].sum())
        for _, inner in part.groupby("arm"):
            own = inner.index.to_numpy(dtype=int)
            middle = groups.n[own] @ groups.means[own, 0] / groups.n[own].sum()
            squares += float(groups.n[own] @ (groups.means[own, 0] - middle) ** 2)
        spreads[str(trial)] = Spread(
            squares=squares,
            df=int(n.sum()) - part["arm"].nunique(),
            mean=float(n @ mean / n.sum()),
            n=int(n.sum()),
        )
    whole = IntegrityRow(
        trial="",
        check="each-persons-row",
        result="not-checked",
        n_checked=None,
        n_found=None,
        value=None,
        sentence=NOT_CHECKED,
    )
    return (*spread_rows(spreads), whole)


def _exclusions(
    groups: Groups, large: LargeStage, held: Mapping[int, list[str]]
) -> tuple[Exclusion, ...]:
    """One for each participant who is not analysed, by trial and id."""
    codes = [str(code) for code in large.table["code"]]
    trials = [str(trial) for trial in large.table["trial"]]
    wanted = np.array([bool(code) and i not in held for i, code in enumerate(codes)], dtype=bool)
    ids = {**held, **(ids_of(groups, wanted) if wanted.any() else {})}
    people = sorted(
        (trials[group], person, codes[group])
        for group, members in ids.items()
        if codes[group]
        for person in members
    )
    return tuple(
        Exclusion(
            stage="participant",
            trial=trial,
            participant_id=person,
            visit="",
            code=code,
            sentence=SENTENCES[code],
        )
        for trial, person, code in people
    )
