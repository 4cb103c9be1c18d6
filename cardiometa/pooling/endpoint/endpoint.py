"""Whether there is anything to compare: two randomised arms, one of them the control.

Who belongs to which randomised cluster, where a trial randomised clusters and not persons.

Binary and time-to-event endpoints: one row a participant, whether they were scanned or not.

From a table of scans to one row a participant: follow-up, baseline, arm, covariates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from ...cohort.parsing import as_booleans, as_numbers, values_text
from ...errors import Problem, TableError
from ...records import CohortTable, Exclusion
from ..options import EVENTS, PoolingOptions
from .columns import (
    harmonised_name,
    known_text,
    number_column,
    require_columns,
    text_column,
    truth_column,
)


def arms_by_trial(people: pd.DataFrame) -> dict[str, list[str]]:
    """The arms of the randomised of each trial that has any, in order of name."""
    randomised = people[people["randomised"].map(lambda item: item is not False)]
    known = randomised[randomised["arm"] != ""]
    return {str(trial): sorted(set(part["arm"])) for trial, part in known.groupby("trial")}


def refuse_without_arms(people: pd.DataFrame, options: PoolingOptions) -> None:
    """Refuse what cannot be compared: no arms at all, or a control that goes by another name.

    ``people`` has ``trial``, ``arm`` and ``randomised``; TableError names every trial.
    """
    arms = arms_by_trial(people)
    _refuse_two_spellings(people)
    if not any(len(names) >= 2 for names in arms.values()):
        raise TableError(
            "No trial has two randomised arms in the column arm, so there is no effect to pool.",
            hint="Name the arm's column with --arm, or give it in the participants table of "
            f"cohort.toml; call the reference arm {options.control!r} or name it with --control.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=_why_not(part, arms.get(str(trial), [])),
                    why="Two randomised arms are needed.",
                )
                for trial, part in people.groupby("trial")
            ],
        )
    without = {
        trial: names
        for trial, names in arms.items()
        if len(names) >= 2 and options.control not in names
    }
    if without:
        raise TableError(
            f"Trials with several arms have none called {options.control!r} (--control).",
            hint="Map the arms to common names under [columns] of --config, or name the reference "
            "arm with --control; a trial that must stay out gets randomised = false.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"the arms are {', '.join(names)}",
                    why="Which arm is the reference cannot be guessed.",
                )
                for trial, names in without.items()
            ],
        )


def _refuse_two_spellings(people: pd.DataFrame) -> None:
    """Refuse arms that differ in case, spaces or punctuation alone: one arm, pooled as two."""
    randomised = people[people["randomised"].map(lambda item: item is not False)]
    counts = randomised.loc[randomised["arm"] != "", "arm"].value_counts()
    spellings: dict[str, list[str]] = {}
    for name in sorted(map(str, counts.index)):
        plain = "".join(c for c in name.casefold() if c.isalnum())
        spellings.setdefault(plain or name, []).append(name)
    twice = [names for names in spellings.values() if len(names) > 1]
    if twice:
        raise TableError(
            "Arms are named in two spellings.",
            hint="Map them to one name under [columns] of --config.",
            problems=[
                Problem(
                    where="column arm",
                    what=" and ".join(f"{name!r} ({counts[name]})" for name in names),
                    why="They would be pooled as different arms.",
                )
                for names in twice
            ],
        )


def _why_not(people: pd.DataFrame, usable: list[str]) -> str:
    named = sorted(set(people["arm"]) - {""})
    if not named:
        return "no participant has a value in the column arm"
    if not usable:
        return f"its participants are not randomised (arm: {', '.join(named)})"
    return f"the only arm is {usable[0]!r}"


KEY = ["trial", "participant_id"]
CLUSTER = "cluster"
_SHOWN = 20


def with_clusters(
    people: pd.DataFrame, table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None
) -> pd.DataFrame:
    """``people`` with their cluster as text, empty throughout in trials randomised by person.

    TableError where a person has several clusters, or some of a trial's people have none.
    """
    if options.cluster is None:
        return people
    require_columns(table.rows, [options.cluster], "--cluster")
    sources = [s for s in (table.rows, table.unused, roster) if s is not None]
    parts = [
        pd.DataFrame({name: text_column(source, name) for name in KEY}).assign(
            cluster=known_text(source, options.cluster)
        )
        for source in sources
        if options.cluster in source
    ]
    known = pd.concat(parts, ignore_index=True)
    known = known[known[CLUSTER] != ""].drop_duplicates()
    twice = known[known.duplicated(KEY)].drop_duplicates(KEY)
    if len(twice):
        raise TableError(
            f"--cluster {options.cluster}: the cluster changes within a participant.",
            hint="The cluster is the one that was randomised: one value in all rows of a person.",
            problems=[
                Problem(where=f"trial {trial}", what=f"{len(part)} participants with several")
                for trial, part in twice.groupby("trial")
            ][:_SHOWN],
        )
    people = people.merge(known, on=KEY, how="left")
    people[CLUSTER] = people[CLUSTER].fillna("")
    _refuse_gaps(people, options.cluster)
    return people


def _refuse_gaps(people: pd.DataFrame, column: str) -> None:
    compared = people[people["randomised"].map(lambda item: item is not False)]
    compared = compared[compared["arm"] != ""]
    problems = []
    for trial, part in compared.groupby("trial"):
        lacking = int((part[CLUSTER] == "").sum())
        if 0 < lacking < len(part):
            problems.append(
                Problem(
                    where=f"trial {trial}",
                    what=f"{lacking} of {len(part)} participants have no cluster",
                    why="A person without one cannot be put into the trial's model.",
                )
            )
    if problems:
        raise TableError(
            f"--cluster {column}: some clusters are unknown.",
            hint="Fill them in; leave the column empty in all rows of a trial that randomised "
            "persons.",
            problems=problems[:_SHOWN],
        )


def event_values(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None,
    people: pd.DataFrame,
    followup_rows: Callable[[], tuple[pd.DataFrame, str]],
) -> tuple[pd.DataFrame, str]:
    """``people`` with ``outcome`` 0 or 1 (NaN unknown), ``time`` for hazards, and where from.

    An event is of the person: its column is read from every row of theirs, scans that failed and
    the roster included, so that those who died unscanned count. Only a column that changes from
    visit to visit is read at the follow-up. TableError for values that are no event or no time.
    """
    sources = [table.rows, *(s for s in (table.unused, roster) if s is not None)]
    name = options.event_column
    option = "--event" if options.effect == "hazard-ratio" else "--outcome"
    _require_somewhere(sources, name, option)
    found = _by_person(sources, name, _event_column)
    changes = bool(found.duplicated(KEY).any())
    where = f"{name} of each participant"
    if changes and options.effect == "hazard-ratio":
        raise _changing(found, option, name)
    if changes:
        rows, followup = followup_rows()
        found = _by_person([rows], name, _event_column)
        where = f"{name} at {followup}"
        if found.duplicated(KEY).any():
            raise _changing(found, option, name)
    found["outcome"] = found.pop("value").astype(float)
    people = people.merge(found, on=KEY, how="left")
    if options.effect == "hazard-ratio":
        assert options.time is not None
        _require_somewhere(sources, options.time, "--time")
        times = _by_person(sources, options.time, number_column)
        if times.duplicated(KEY).any():
            raise _changing(times, "--time", options.time)
        _refuse_negative(times, options.time)
        times["time"] = times.pop("value")
        people = people.merge(times, on=KEY, how="left")
        people["outcome"] = people["outcome"].mask(people["time"].isna())
    for column, value in (("visit", ""), ("visit_day", float("nan")), ("baseline", float("nan"))):
        people[column] = value
    return people.assign(scanned=True, came=people["outcome"].notna()), where


def _event_column(rows: pd.DataFrame, name: str) -> pd.Series:
    """An event as True, False, None; TableError where the column holds anything else."""
    truths, wrong = as_booleans(rows[name])
    if wrong.any():
        raise TableError(
            f"The column {name} is no event: it must be 1 or 0, true or false, yes or no.",
            hint=f"It also holds {values_text(rows.loc[wrong, name], 8)}. Other codes are not "
            "guessed: make a column of 0 and 1 of them.",
        )
    return truths


def _require_somewhere(sources: Sequence[pd.DataFrame], name: str, option: str) -> None:
    if not any(name in source for source in sources):
        require_columns(sources[0], [name], option)


def _by_person(
    sources: Sequence[pd.DataFrame],
    name: str,
    read: Callable[[pd.DataFrame, str], pd.Series],
) -> pd.DataFrame:
    """The distinct known values of each person: ``trial, participant_id, value``."""
    parts = []
    for source in sources:
        if name not in source:
            continue
        keys = {column: text_column(source, column) for column in KEY}
        parts.append(pd.DataFrame({**keys, "value": read(source, name)}))
    every = pd.concat(parts, ignore_index=True)
    return every[every["value"].notna()].drop_duplicates().reset_index(drop=True)


def _changing(found: pd.DataFrame, option: str, name: str) -> TableError:
    twice = found[found.duplicated(KEY)].drop_duplicates(KEY)
    return TableError(
        f"{option} {name}: the value changes within a participant.",
        hint="An event and its time are of the person: one value in all rows of theirs.",
        problems=[
            Problem(where=f"trial {trial}", what=f"{len(part)} participants with several values")
            for trial, part in twice.groupby("trial")
        ][:_SHOWN],
    )


def _refuse_negative(times: pd.DataFrame, name: str) -> None:
    negative = times[times["value"] < 0]
    if len(negative):
        raise TableError(
            f"--time {name}: times before randomisation.",
            hint="Times count from randomisation; a person whose event came before it was not at "
            "risk. Leave the cell empty, or correct it.",
            problems=[
                Problem(where=f"trial {trial}", what=f"{len(part)} negative times")
                for trial, part in negative.groupby("trial")
            ][:_SHOWN],
        )


_MOST_LEVELS = 30
_NAME_THE_ARM = "Name its column with --arm, or give it in the participants table of cohort.toml."


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is analysed, before anyone is left out for missing values.

    ``people``: one row a participant of the table, columns ``trial, participant_id, arm,
    randomised`` (True, False, None), ``visit, visit_day, outcome, baseline`` (NaN unknown),
    ``scanned`` (has a usable follow-up row), ``came`` (was scanned then, the scan usable or not),
    ``known`` (has any usable row), and each covariate as text.
    ``followup`` and ``baseline`` say in words which rows were taken; ``exclusions`` are scans.
    """

    people: pd.DataFrame
    covariates: tuple[str, ...]
    followup: str
    baseline: str
    has_baseline: bool
    exclusions: tuple[Exclusion, ...] = ()


def build_endpoint(
    table: CohortTable, options: PoolingOptions, roster: pd.DataFrame | None = None
) -> Endpoint:
    """One row a participant from the rows of ``table`` (long or wide form).

    ``roster`` is ``participants.csv``, so that those randomised but never scanned are counted.
    TableError for whatever is ambiguous: several follow-up visits, two rows of one participant at
    one visit, an arm that changes; and where no trial has two arms to compare.
    """
    rows = table.rows
    is_event = options.effect in EVENTS
    if not is_event:
        require_columns(rows, [options.outcome], "--outcome")
    covariates = tuple(harmonised_name(name) for name in options.adjust)
    require_columns(rows, covariates, "--adjust")
    require_columns(rows, options.by_columns, "--by")
    require_columns(rows, options.regression_columns, "--meta-regression")
    if options.baseline_column:
        require_columns(rows, [options.baseline_column], "--baseline")
    if "arm" not in rows and (roster is None or "arm" not in roster):
        raise TableError(
            "The table has no column arm, so no trial has two arms to compare.",
            hint=" ".join([_NAME_THE_ARM, *(line for line in table.warnings if "--arm" in line)]),
        )
    rows = rows.reset_index(drop=True)
    rows = rows.assign(
        trial=text_column(rows, "trial"),
        participant_id=text_column(rows, "participant_id"),
        arm=text_column(rows, "arm"),
        visit=text_column(rows, "visit"),
        _outcome=float("nan") if is_event else number_column(rows, options.outcome),
        _day=number_column(rows, "visit_day") if "visit_day" in rows else float("nan"),
        _randomised=truth_column(rows, "randomised"),
    )
    exclusions = list(table.exclusions)
    if not is_event:  # an event is known whatever became of the scan
        rows, left_out = _without_failed_and_review(rows, options)
        exclusions += left_out
    # Arms before visits: who looks for a follow-up in a table of patients is told the real lack.
    people = with_clusters(_people(rows, table, roster), table, options, roster)
    refuse_without_arms(people, options)
    if is_event:
        return _event_endpoint(table, options, roster, rows, people)
    followup_rows, followup = _followup_rows(rows, options)
    baseline_rows, baseline = _baseline_rows(rows, options)
    _refuse_duplicates(followup_rows, followup)
    _refuse_duplicates(baseline_rows, baseline)
    people = _join(people, followup_rows, baseline_rows, options)
    # Without visits a row is a person, not a scan: whoever has the outcome was scanned.
    has_scan = people["scanned"] if _visits(rows) else people["outcome"].notna()
    people["came"] = has_scan | _failed_then(people, exclusions, options, followup)
    for name, option in _covariate_options(options).items():
        people[f"covariate {name}"] = _covariate(people, rows, baseline_rows, name, roster, option)
    has_baseline = bool(people["baseline"].notna().any())
    if options.needs_baseline and not has_baseline:
        _refuse_without_baseline(rows, options)
    return Endpoint(
        people=people,
        covariates=covariates,
        followup=followup,
        baseline=baseline,
        has_baseline=has_baseline,
        exclusions=tuple(exclusions),
    )


def _event_endpoint(
    table: CohortTable,
    options: PoolingOptions,
    roster: pd.DataFrame | None,
    rows: pd.DataFrame,
    people: pd.DataFrame,
) -> Endpoint:
    """The endpoint of an event: of everyone, with a scan or without."""
    people, where = event_values(
        table, options, roster, people, lambda: _followup_rows(rows, options)
    )
    baseline_rows, baseline = _baseline_rows(rows, options)
    covariates = tuple(harmonised_name(name) for name in options.adjust)
    for name, option in _covariate_options(options).items():
        people[f"covariate {name}"] = _covariate(people, rows, baseline_rows, name, roster, option)
    return Endpoint(
        people=people,
        covariates=covariates,
        followup=where,
        baseline=baseline,
        has_baseline=False,
        exclusions=table.exclusions,
    )


# ------------------------------------------------------------------ which rows


def _without_failed_and_review(
    rows: pd.DataFrame, options: PoolingOptions
) -> tuple[pd.DataFrame, list[Exclusion]]:
    status = text_column(rows, "status").str.lower()
    dropped = status.eq("failed")
    if options.status == "ok":
        dropped |= status.eq("review")
    if not dropped.any():
        return rows, []
    sentences = {
        "failed": ("failed", "The scan could not be measured."),
        "review": ("review", "The scan is marked for review and --status ok leaves it out."),
    }
    exclusions = [
        Exclusion(
            stage="scan",
            trial=trial,
            participant_id=participant,
            visit=visit,
            code=sentences[state][0],
            sentence=sentences[state][1],
        )
        for trial, participant, visit, state in zip(
            *(rows.loc[dropped, name] for name in (*KEY, "visit")), status[dropped], strict=True
        )
    ]
    return rows[~dropped], exclusions


def _visits(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["visit"]) - {""})


def _visit_list(rows: pd.DataFrame) -> str:
    counts = rows[rows["visit"] != ""].groupby("visit")["trial"].agg(["size", "unique"])
    return "; ".join(
        f"{visit} ({row['size']} rows; {', '.join(sorted(row['unique'])[:6])})"
        for visit, row in counts.iterrows()
    )


def _followup_rows(rows: pd.DataFrame, options: PoolingOptions) -> tuple[pd.DataFrame, str]:
    """The rows the outcome is taken from, and their name for people."""
    if options.followup_day is not None:
        return _nearest_rows(rows, options)
    visits = _visits(rows)
    if options.followup_visit is not None:
        if options.followup_visit not in visits:
            raise TableError(
                f"There is no visit {options.followup_visit} (--followup-visit).",
                hint=f"The visits are: {_visit_list(rows) or 'none; the table has no visits'}.",
            )
        return rows[rows["visit"] == options.followup_visit], options.followup_visit
    others = [visit for visit in visits if visit != options.baseline_visit]
    if len(others) > 1:
        raise TableError(
            f"There are several follow-up visits: {', '.join(others)}.",
            hint="Choose one with --followup-visit NAME, or the nearest to a day with "
            f"--followup-day D --window W. The visits are: {_visit_list(rows)}.",
        )
    if others:
        return rows[rows["visit"] == others[0]], others[0]
    if visits and options.baseline_column is None:
        raise TableError(
            f"The only visit is {options.baseline_visit}: there is no follow-up.",
            hint="Name the visits with --baseline-visit and --followup-visit; in a table with one "
            "row a participant name the baseline's column with --baseline.",
        )
    return rows, "the table's one row a participant"


def _nearest_rows(rows: pd.DataFrame, options: PoolingOptions) -> tuple[pd.DataFrame, str]:
    """Of each participant the row nearest to the day, the earlier one of a tie."""
    assert options.followup_day is not None
    assert options.window is not None
    name = f"the visit nearest to day {options.followup_day:g} (± {options.window:g})"
    if rows["_day"].isna().all():
        raise TableError(
            "--followup-day needs a day for each visit (visit_day), and there is none.",
            hint="Name its column with --visit-day, or use --followup-visit.",
        )
    far = (rows["_day"] - options.followup_day).abs()
    near = rows.assign(_far=far)[far.le(options.window) & (rows["visit"] != options.baseline_visit)]
    if near.empty:
        raise TableError(
            f"No visit lies within {options.window:g} days of day {options.followup_day:g}."
        )
    near = near.sort_values([*KEY, "_far", "_day"], kind="stable")
    first = near.groupby(KEY, sort=False)[["_far", "_day"]].transform("first")
    # Rows of equal distance and day stay, so that they are refused as duplicates.
    return near[(near["_far"] == first["_far"]) & (near["_day"] == first["_day"])], name


def _baseline_rows(rows: pd.DataFrame, options: PoolingOptions) -> tuple[pd.DataFrame, str]:
    if options.baseline_column is not None:
        return rows.iloc[:0], f"column {options.baseline_column}"
    return rows[rows["visit"] == options.baseline_visit], options.baseline_visit


def _refuse_without_baseline(rows: pd.DataFrame, options: PoolingOptions) -> None:
    visits = ", ".join(_visits(rows)) or "none"
    if options.baseline_column is not None:
        found = f"the column {options.baseline_column} holds no value"
    elif options.baseline_visit in _visits(rows):
        found = f"no {options.outcome} at the visit {options.baseline_visit}"
    else:
        found = f"there is no visit {options.baseline_visit} (the visits: {visits})"
    raise TableError(
        f"--effect {options.effect} needs a baseline, and {found}.",
        hint="Name the visit with --baseline-visit, or the column with --baseline; without any "
        "baseline use --effect follow-up.",
    )


def _refuse_duplicates(rows: pd.DataFrame, name: str) -> None:
    twice = rows[rows.duplicated(KEY, keep=False)]
    if twice.empty:
        return
    counts = twice.groupby("trial")["participant_id"].nunique()
    raise TableError(
        f"Participants have several rows at {name}.",
        hint="One row a participant and visit is needed: remove the repeats, or tell visits apart "
        "with --visit, --followup-visit or --followup-day.",
        problems=[
            Problem(
                where=f"trial {trial}",
                what=f"{count} participant{'s' if count > 1 else ''} with more than one row",
                why="It cannot be known which row is the right one.",
            )
            for trial, count in counts.items()
        ],
    )


# ------------------------------------------------------------------ who


def _people(rows: pd.DataFrame, table: CohortTable, roster: pd.DataFrame | None) -> pd.DataFrame:
    """Every participant that the table, its failed scans or the roster name, with one arm."""
    parts = [rows[[*KEY, "arm", "_randomised"]].assign(known=True)]
    for source in (roster, table.unused):
        if source is not None:
            part = pd.DataFrame({name: text_column(source, name) for name in [*KEY, "arm"]})
            parts.append(part.assign(_randomised=truth_column(source, "randomised"), known=False))
    if table.exclusions:
        keys = sorted({(item.trial, item.participant_id) for item in table.exclusions})
        failed = pd.DataFrame(keys, columns=KEY).assign(arm="", _randomised=None, known=False)
        parts.append(failed)
    everyone = pd.concat(parts, ignore_index=True)
    people = everyone[KEY].drop_duplicates()
    people = people.merge(
        everyone[everyone["known"]][[*KEY, "known"]].drop_duplicates(), how="left"
    )
    people["known"] = people["known"].eq(True)
    for column, is_known in (("arm", everyone["arm"] != ""), ("_randomised", _not_none)):
        known = everyone.loc[is_known, [*KEY, column]].drop_duplicates()
        _refuse_changes(known, column)
        people = people.merge(known, on=KEY, how="left")
    people["randomised"] = people.pop("_randomised").astype(object)
    people["randomised"] = people["randomised"].where(people["randomised"].notna(), None)
    people["arm"] = people["arm"].fillna("")
    return people.sort_values(KEY, ignore_index=True)


def _not_none(everyone: pd.DataFrame) -> pd.Series[bool]:
    return everyone["_randomised"].notna()


def _refuse_changes(known: pd.DataFrame, column: str) -> None:
    """Refuse people with several values; ``known`` has each person's distinct values."""
    changing = known[known.duplicated(KEY)].drop_duplicates(KEY)
    if changing.empty:
        return
    word = column.removeprefix("_")
    raise TableError(
        f"The value of {word} changes within a participant.",
        hint="Randomised comparisons need the arm each person was randomised to, once.",
        problems=[
            Problem(
                where=f"trial {trial}",
                what=f"{len(part)} participant{'s' * (len(part) > 1)} with more than one {word}",
            )
            for trial, part in changing.groupby("trial")
        ][:_SHOWN],
    )


def _join(
    people: pd.DataFrame,
    followup_rows: pd.DataFrame,
    baseline_rows: pd.DataFrame,
    options: PoolingOptions,
) -> pd.DataFrame:
    part = followup_rows[[*KEY, "visit"]].assign(
        visit_day=followup_rows["_day"], outcome=followup_rows["_outcome"], scanned=True
    )
    if options.baseline_column is not None:
        part["baseline"] = number_column(followup_rows, options.baseline_column)
        people = people.merge(part, on=KEY, how="left")
    else:
        before = baseline_rows[KEY].assign(baseline=baseline_rows["_outcome"])
        people = people.merge(part, on=KEY, how="left").merge(before, on=KEY, how="left")
    people["scanned"] = people["scanned"].eq(True)
    people["visit"] = people["visit"].fillna("")
    return people


def _failed_then(
    people: pd.DataFrame,
    exclusions: list[Exclusion],
    options: PoolingOptions,
    followup: str,
) -> pd.Series[bool]:
    """Who has a scan of the follow-up that could not be used; by day, any scan but baseline's."""
    failed = {
        (item.trial, item.participant_id)
        for item in exclusions
        if item.stage == "scan"
        and (
            item.visit != options.baseline_visit
            if options.followup_day is not None
            else item.visit in (followup, "")
        )
    }
    keys = zip(people["trial"], people["participant_id"], strict=True)
    return pd.Series([key in failed for key in keys], index=people.index, dtype=bool)


def _covariate_options(options: PoolingOptions) -> dict[str, str]:
    """Every covariate that is asked for, with the first option that names it."""
    asked = {
        "--adjust": tuple(harmonised_name(name) for name in options.adjust),
        "--by": options.by_columns,
        "--meta-regression": options.regression_columns,
    }
    found: dict[str, str] = {}
    for option, names in asked.items():
        for name in names:
            found.setdefault(name, option)
    return found


def _covariate(
    people: pd.DataFrame,
    rows: pd.DataFrame,
    baseline_rows: pd.DataFrame,
    name: str,
    roster: pd.DataFrame | None,
    option: str,
) -> pd.Series[str]:
    """A covariate as text, from the baseline row; from any row or the roster if it never changes.

    A value that changes from visit to visit (a heart rate, a BSA) is never taken from after
    randomisation: to adjust for it could take the effect away.
    """
    known = rows[KEY].assign(value=known_text(rows, name))
    if roster is not None and name in roster:
        keys = {column: text_column(roster, column) for column in KEY}
        person = pd.DataFrame({**keys, "value": known_text(roster, name)})
        person.index = pd.RangeIndex(-len(person), 0)  # no row number of a scan
        known = pd.concat([known, person])
    known = known[known["value"] != ""]
    changes = bool(known.drop_duplicates().duplicated(KEY).any())
    use = known.loc[known.index.isin(baseline_rows.index)] if changes else known
    values = use.drop_duplicates(KEY)
    if values.empty:
        raise TableError(
            f"{option} {name}: no value before randomisation is known.",
            hint="It changes between visits, and only the baseline row may be adjusted for."
            if changes
            else "Every cell of the column is empty.",
        )
    _refuse_unclear_categories(f"{option} {name}", values["value"])
    merged = people[KEY].merge(values, on=KEY, how="left")["value"].fillna("")
    merged.index = people.index
    return merged


def _refuse_unclear_categories(name: str, values: pd.Series[str]) -> None:
    """Refuse words among numbers, and so many words that they must be numbers written wrongly.

    A covariate of words enters as categories: one ``65 y`` among ages would quietly turn all of
    them into categories. ``values`` has one known value a person.
    """
    _, words = as_numbers(values)
    if not words.any():
        return
    if not words.all():
        raise TableError(
            f"{name}: the column mixes numbers and words.",
            hint=f"The words are {values_text(values[words])}. Leave a cell empty where the value "
            "is unknown; if the numbers are codes, give every level a word.",
        )
    if values.nunique() > _MOST_LEVELS:
        raise TableError(
            f"{name}: {values.nunique()} different words are too many categories.",
            hint="Write numbers with a decimal point and without a unit, or group the categories. "
            f"The values are {values_text(values, 5)}.",
        )
