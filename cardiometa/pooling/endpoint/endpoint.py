"""From a table of scans to one row per participant: follow-up, baseline, arm, covariates.

An outcome is of the follow-up scan. An event (binary or time to event) is of the participant,
scanned or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...cohort.recode import as_booleans, as_numbers, values_text
from ...errors import Problem, TableError, UsageError
from ...records import CohortTable, Exclusion
from ..options import EVENTS, PoolingOptions
from .columns import (
    KEY,
    each_trial,
    known_text,
    merged,
    number_column,
    numbered,
    participant_values,
    present,
    problems_by_trial,
    refuse_changes,
    repeated_people,
    require_columns,
    truth_column,
    words_column,
)

CLUSTER = "cluster"
_MOST_LEVELS = 30
_NO_DAY = np.float32("nan")  # of all participants: half the memory
_NAME_THE_ARM = "Name its column with --arm, or give it in the participants table of cohort.toml."


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is analysed, before participants are excluded for missing values.

    ``people``: one row per participant of the table, trial by trial, columns ``trial,
    participant_id, arm, randomised`` (True, False, NaN), ``visit, visit_day, outcome, baseline``
    (NaN unknown), ``scanned`` (has a usable follow-up row), ``came`` (was scanned then, the scan
    usable or not), ``known`` (has any usable row), each covariate as text, and of deaths
    ``death_day, withdrawal_day, died, withdrew, deaths_recorded`` (`_with_deaths`).
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
    """One row per participant from the rows of ``table`` (long or wide form).

    ``roster`` is ``participants.csv``, so that those randomised but never scanned are counted.
    TableError for whatever is ambiguous: several follow-up visits, two rows of one participant at
    one visit, an arm that changes; and where no trial has two arms to compare.
    """
    rows = table.rows
    is_event = options.effect in EVENTS
    wanted = {
        "--adjust": options.adjust_columns,
        "--by": options.by_columns,
        "--meta-regression": options.regression_columns,
    }
    needed = {"--outcome": [] if is_event else [options.outcome], **wanted}
    for option, names in {**needed, "--baseline": filter(None, [options.baseline_column])}.items():
        require_columns(rows, list(names), option)
    if "arm" not in rows and (roster is None or "arm" not in roster):
        raise TableError(
            "The table has no column arm, so no trial has two arms to compare.",
            hint=" ".join([_NAME_THE_ARM, *(line for line in table.warnings if "--arm" in line)]),
        )
    lost = [(item.trial, item.participant_id) for item in table.exclusions]
    frames = [rows, table.unused, roster, pd.DataFrame(lost, columns=KEY)]
    people, (*sources, _) = numbered([rows.iloc[:0] if one is None else one for one in frames])
    roster = None if roster is None else sources[2]
    rows = sources[0].assign(
        visit=words_column(rows, "visit").array,
        _outcome=float("nan") if is_event else number_column(sources[0], options.outcome),
        _day=number_column(sources[0], "visit_day") if "visit_day" in rows else _NO_DAY,
    )
    exclusions = list(table.exclusions)
    if not is_event:  # an event is known whether the scan is usable or not
        rows, excluded = _without_failed_and_review(rows, options)
        exclusions += excluded
    # Arms before visits: a table of patients without arms must not be refused for its visits.
    people = _with_arms(people, rows, sources[1:])
    people = _with_clusters(people, sources, options)
    refuse_without_arms(people, options)
    if is_event:
        people, followup = _with_events(people, rows, sources, options)
        baseline_rows, baseline = _baseline_rows(rows, options)
    else:
        followup_rows, followup = _followup_rows(rows, options)
        baseline_rows, baseline = _baseline_rows(rows, options)
        _refuse_duplicates(people, followup_rows, followup)
        _refuse_duplicates(people, baseline_rows, baseline)
        people = _with_outcome(people, followup_rows, baseline_rows, options)
        # Without visits a row is a participant, not a scan: with an outcome they were scanned.
        has_scan = people["scanned"] if present(rows["visit"]) else people["outcome"].notna()
        people["came"] = has_scan | _failed_then(people, exclusions, options, followup)
    for option, names in wanted.items():
        for name in names:
            if (column := f"covariate {name}") not in people:
                people[column] = _covariate(people, rows, baseline_rows, (name, option), roster)
    has_baseline = bool(people["baseline"].notna().any())
    if options.needs_baseline and not has_baseline:
        raise _no_baseline(rows, options)
    return Endpoint(
        people=_with_deaths(people, sources, options),
        covariates=options.adjust_columns,
        followup=followup,
        baseline=baseline,
        has_baseline=has_baseline,
        exclusions=tuple(exclusions),
    )


# ------------------------------------------------------------------ which rows


def _without_failed_and_review(
    rows: pd.DataFrame, options: PoolingOptions
) -> tuple[pd.DataFrame, list[Exclusion]]:
    sentences = {"failed": "The scan could not be measured."}
    if options.status == "ok":
        sentences["review"] = "The scan is marked for review and --status ok leaves it out."
    status = words_column(rows, "status")
    dropped = status.isin([word for word in status.cat.categories if word.lower() in sentences])
    exclusions = [
        Exclusion(
            stage="scan",
            trial=trial,
            participant_id=participant,
            visit=visit,
            code=state.lower(),
            sentence=sentences[state.lower()],
        )
        for trial, participant, visit, state in zip(
            *(rows.loc[dropped, name] for name in (*KEY, "visit")), status[dropped], strict=True
        )
    ]
    return rows[~dropped] if exclusions else rows, exclusions


def _visit_list(rows: pd.DataFrame) -> str:
    return "; ".join(
        f"{visit} ({len(part)} rows; {', '.join(present(part)[:6])})"
        for visit, part in rows["trial"].groupby(rows["visit"], observed=True)
        if visit
    )


def _followup_rows(rows: pd.DataFrame, options: PoolingOptions) -> tuple[pd.DataFrame, str]:
    """The rows the outcome is taken from, and their name in reports."""
    if (day := options.followup_day) is not None:
        # Of each participant the row nearest to the day, the earlier one of a tie.
        window = options.window or 0.0
        if rows["_day"].isna().all():
            raise TableError(
                "--followup-day needs a day for each visit (visit_day), and there is none.",
                hint="Name its column with --visit-day, or use --followup-visit.",
            )
        far = (rows["_day"] - day).abs()
        near = rows.assign(_far=far)[far.le(window) & (rows["visit"] != options.baseline_visit)]
        if near.empty:
            raise TableError(f"No visit lies within {window:g} days of day {day:g}.")
        near = near.sort_values(["person", "_far", "_day"], kind="stable")
        first = near.groupby("person", sort=False)[["_far", "_day"]].transform("first")
        # Rows of equal distance and day stay, so that they are refused as duplicates.
        chosen = near[(near["_far"] == first["_far"]) & (near["_day"] == first["_day"])]
        return chosen, f"the visit nearest to day {day:g} (± {window:g})"
    visits = present(rows["visit"])
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
            "row per participant name the baseline's column with --baseline.",
        )
    return rows, "the table's one row per participant"


def _baseline_rows(rows: pd.DataFrame, options: PoolingOptions) -> tuple[pd.DataFrame, str]:
    if options.baseline_column is not None:
        return rows.iloc[:0], f"column {options.baseline_column}"
    return rows[rows["visit"] == options.baseline_visit], options.baseline_visit


def _no_baseline(rows: pd.DataFrame, options: PoolingOptions) -> TableError:
    visits = present(rows["visit"])
    if options.baseline_column is not None:
        found = f"the column {options.baseline_column} has no value"
    elif options.baseline_visit in visits:
        found = f"no {options.outcome} at the visit {options.baseline_visit}"
    else:
        named = ", ".join(visits) or "none"
        found = f"there is no visit {options.baseline_visit} (the visits: {named})"
    return TableError(
        f"--effect {options.effect} needs a baseline, and {found}.",
        hint="Name the visit with --baseline-visit, or the column with --baseline; without any "
        "baseline use --effect follow-up.",
    )


def _refuse_duplicates(people: pd.DataFrame, rows: pd.DataFrame, name: str) -> None:
    twice = repeated_people(rows)
    if len(twice):
        raise TableError(
            f"Participants have several rows at {name}.",
            hint="One row per participant and visit is needed: remove the repeats, or distinguish "
            "visits with --visit, --followup-visit or --followup-day.",
            problems=problems_by_trial(
                people.loc[twice],
                "with more than one row",
                "It cannot be known which row is the right one.",
            ),
        )


# ------------------------------------------------------------------ who, and in which arm


def _with_arms(
    people: pd.DataFrame, rows: pd.DataFrame, others: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """``people`` with one arm each, whether they were randomised, and who has a usable row."""
    for name, read in (("arm", words_column), ("randomised", truth_column)):
        values = participant_values([rows, *others], name, read)
        refuse_changes(
            people,
            values,
            f"The value of {name} changes within a participant.",
            "Randomised comparisons need the arm each participant was randomised to, once.",
        )
        people[name] = merged(people, values)
    # As codes: compared with a text or a truth many times, a byte each.
    arms = people["arm"].astype("category")
    people["arm"] = arms.cat.set_categories(sorted({"", *arms.cat.categories})).fillna("")
    people["randomised"] = pd.Categorical(people["randomised"], categories=[False, True])
    people["known"] = np.bincount(rows["person"], minlength=len(people)) > 0
    return people


def is_compared(people: pd.DataFrame) -> pd.Series[bool]:
    """Who was randomised (or not stated otherwise) to a known arm."""
    return people["randomised"].ne(False) & people["arm"].ne("")


def arms_by_trial(people: pd.DataFrame) -> dict[str, list[str]]:
    """The arms of the randomised of each trial that has any, in order of name."""
    known = people.loc[is_compared(people), ["trial", "arm"]]
    return {trial: present(part["arm"]) for trial, part in each_trial(known)}


def refuse_without_arms(people: pd.DataFrame, options: PoolingOptions) -> None:
    """Refuse what cannot be compared: no arms at all, or no control in any trial.

    A trial without the control among others that have it is left out later, with a warning.
    ``people`` has ``trial``, ``arm`` and ``randomised``; TableError names every trial.
    """
    arms = arms_by_trial(people)
    if not any(len(names) >= 2 for names in arms.values()):
        problems = []
        for trial, part in each_trial(people):
            usable, named = arms.get(trial, []), present(part["arm"])
            what = "no participant has a value in the column arm"
            if usable:
                what = f"the only arm is {usable[0]!r}"
            elif named:
                what = f"its participants are not randomised (arm: {', '.join(named)})"
            problems.append(
                Problem(where=f"trial {trial}", what=what, why="Two randomised arms are needed.")
            )
        raise TableError(
            "No trial has two randomised arms in the column arm, so there is no effect to pool.",
            hint="Name the arm's column with --arm, or give it in the participants table of "
            f"cohort.toml; call the reference arm {options.control!r} or name it with --control.",
            problems=problems,
        )
    several = {trial: names for trial, names in arms.items() if len(names) >= 2}
    if not any(options.control in names for names in several.values()):
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
                for trial, names in several.items()
            ],
        )


def _with_clusters(
    people: pd.DataFrame, sources: Sequence[pd.DataFrame], options: PoolingOptions
) -> pd.DataFrame:
    """``people`` with their randomised cluster as text, empty in trials without clusters.

    TableError where a participant has several clusters, some of a trial's have none, or a cluster
    has several arms: wards numbered anew in each arm would halve the standard error.
    """
    if options.cluster is None:
        return people
    require_columns(sources[0], [options.cluster], "--cluster")
    known = participant_values(sources, options.cluster, known_text)
    refuse_changes(
        people,
        known,
        f"--cluster {options.cluster}: the cluster changes within a participant.",
        "The cluster is the one that was randomised: one value in all rows of a participant.",
        "clusters",
    )
    people = people.assign(**{CLUSTER: merged(people, known).fillna("")})
    compared = people[is_compared(people)]
    lacks = compared[CLUSTER].eq("").groupby(compared["trial"], observed=True).agg(["sum", "size"])
    problems = [
        Problem(
            where=f"trial {trial}",
            what=f"{row['sum']} of {row['size']} participants have no cluster",
            why="A participant without one cannot be put into the trial's model.",
        )
        for trial, row in lacks.iterrows()
        if 0 < row["sum"] < row["size"]
    ]
    if problems:
        raise TableError(
            f"--cluster {options.cluster}: some clusters are unknown.",
            hint="Fill them in; leave the column empty in all rows of a trial that randomised "
            "individuals.",
            problems=problems[:20],
        )
    mine = compared[compared[CLUSTER] != ""].groupby(["trial", CLUSTER], observed=True)["arm"]
    arms = mine.nunique()
    mixed = arms[arms > 1].groupby("trial", observed=True).size()
    if len(mixed):
        raise TableError(
            f"--cluster {options.cluster}: clusters have participants of several arms.",
            hint="A cluster is randomised to one arm. Where clusters are numbered anew in each arm "
            "give each a name of its own (arm and number); where participants of a cluster were "
            "randomised to different arms, leave the column empty in the trial.",
            problems=[
                Problem(
                    where=f"trial {trial}",
                    what=f"{count} of {len(arms[trial])} clusters have several arms",
                    why="Clusters of both arms taken as one give a standard error that is too "
                    "small.",
                )
                for trial, count in zip(mixed.index.astype(str), mixed, strict=True)
            ],
        )
    return people


# ------------------------------------------------------------------ outcomes and events


def _with_outcome(
    people: pd.DataFrame,
    followup_rows: pd.DataFrame,
    baseline_rows: pd.DataFrame,
    options: PoolingOptions,
) -> pd.DataFrame:
    if options.baseline_column is not None:
        before = number_column(followup_rows, options.baseline_column)
        baseline_rows = followup_rows.assign(_outcome=before)
    has_row = np.bincount(followup_rows["person"], minlength=len(people)) > 0
    return people.assign(
        visit=merged(people, followup_rows, "visit").fillna(""),
        visit_day=merged(people, followup_rows, "_day"),
        outcome=merged(people, followup_rows, "_outcome"),
        scanned=has_row,
        baseline=merged(people, baseline_rows, "_outcome"),
    )


def _failed_then(
    people: pd.DataFrame, exclusions: list[Exclusion], options: PoolingOptions, followup: str
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
    named = people["participant_id"].isin({person for _, person in failed})
    some = people.loc[named, KEY]
    keys = zip(some.index, *(some[name] for name in KEY), strict=True)
    found = [number for number, *key in keys if tuple(key) in failed]
    return pd.Series(people.index.isin(found), index=people.index)


def _with_events(
    people: pd.DataFrame,
    rows: pd.DataFrame,
    sources: Sequence[pd.DataFrame],
    options: PoolingOptions,
) -> tuple[pd.DataFrame, str]:
    """``people`` with ``outcome`` 0 or 1 (NaN unknown), ``time`` for hazards, and where from.

    An event is of the participant: its column is read from each of their rows, scans that failed
    and the roster included, so that those who died unscanned count. Only a column that changes
    from visit to visit is read at the follow-up.
    """
    hazard = options.effect == "hazard-ratio"
    if hazard and options.time is None:
        raise UsageError(
            "--effect hazard-ratio of participants' rows needs --time and --event.",
            hint="For example --time mace_day --event mace.",
        )

    def values(name: str, option: str, read: Any) -> pd.DataFrame:
        if not any(name in source for source in sources):
            require_columns(sources[0], [name], option)
        return participant_values(sources, name, read)

    def refuse(found: pd.DataFrame, name: str, option: str) -> None:
        hint = "An event and its time are of the participant: one value in all of their rows."
        message = f"{option} {name}: the value changes within a participant."
        refuse_changes(people, found, message, hint)

    name, option = options.event_column, "--event" if hazard else "--outcome"
    found = values(name, option, _event_column)
    where = f"{name} of each participant"
    if not hazard and len(repeated_people(found)):
        at_visit, followup = _followup_rows(rows, options)
        found = participant_values([at_visit], name, _event_column)
        where = f"{name} at {followup}"
    refuse(found, name, option)
    people = people.assign(outcome=merged(people, found).astype(float))
    if hazard:
        assert options.time is not None
        times = values(options.time, "--time", number_column)
        refuse(times, options.time, "--time")
        negative = times[times["value"] < 0]
        if len(negative):
            raise TableError(
                f"--time {options.time}: times before randomisation.",
                hint="Times count from randomisation; a participant whose event came before it was "
                "not at risk. Leave the cell empty, or correct it.",
                problems=problems_by_trial(
                    people.loc[negative["person"].unique()], "with a negative time"
                ),
            )
        people["time"] = merged(people, times).astype(float)
        people["outcome"] = people["outcome"].mask(people["time"].isna())
        if options.competing:
            other = values(options.competing, "--competing", _event_column)
            refuse(other, options.competing, "--competing")
            people["competing"] = merged(people, other).astype(float)
    unknown: dict[str, Any] = {"visit": "", "visit_day": _NO_DAY, "baseline": float("nan")}
    return people.assign(**unknown, scanned=True, came=people["outcome"].notna()), where


def _event_column(rows: pd.DataFrame, name: str) -> pd.Series:
    """An event as True, False, None; TableError where the column has other values."""
    truths, wrong = as_booleans(rows[name])
    if wrong.any():
        raise TableError(
            f"Column {name} is not a valid event indicator: use 1/0, true/false or yes/no.",
            hint=f"It also contains {values_text(rows.loc[wrong, name], 8)}. Other codes are not "
            "guessed: make a column of 0 and 1 from them.",
        )
    return truths


# ------------------------------------------------------------------ deaths and withdrawals


def _with_deaths(
    people: pd.DataFrame, sources: Sequence[pd.DataFrame], options: PoolingOptions
) -> pd.DataFrame:
    """``people`` with ``death_day, withdrawal_day, died, withdrew, deaths_recorded``.

    *Died* is before the follow-up: the day asked for, else the median scan day of the trial, and
    not scanned then. Without any day of the scans, every recorded death of a participant who was
    not scanned counts. Days come from the roster, the table, and rows of failed scans.
    """
    recorded = pd.Series(data=False, index=people.index)
    for name, what in (("death_day", "died"), ("withdrawal_day", "withdrew")):
        days = participant_values(sources, name, number_column)
        refuse_changes(
            people,
            days,
            f"The {name} changes within a participant.",
            "A participant has one such day: correct the rows.",
            "days",
        )
        if days.empty:
            people[name], people[what] = _NO_DAY, False
            continue
        day = merged(people, days).astype(float)
        by_trial = people["trial"]
        typical = pd.Series(options.followup_day, index=people.index, dtype=float)
        if options.followup_day is None and people["visit_day"].notna().any():
            scans = people["visit_day"].astype(float).groupby(by_trial, observed=True)
            typical = scans.transform("median")
        before = (day < typical) | (typical.isna() & day.notna())
        people[name], people[what] = day, before & ~people["came"]
        if name == "death_day":
            recorded = day.notna().groupby(by_trial, observed=True).transform("any")
    return people.assign(deaths_recorded=recorded, withdrew=people["withdrew"] & ~people["died"])


# ------------------------------------------------------------------ covariates


def _covariate(
    people: pd.DataFrame,
    rows: pd.DataFrame,
    baseline_rows: pd.DataFrame,
    named: tuple[str, str],
    roster: pd.DataFrame | None,
) -> pd.Series[str]:
    """A covariate as text, from the baseline row; from any row or the roster if it never changes.

    A value that changes from visit to visit (a heart rate, a BSA) is never taken from after
    randomisation: to adjust for it could take the effect away.
    """
    name, option = named
    known = pd.DataFrame({"person": rows["person"], "value": known_text(rows, name)})
    if roster is not None and name in roster:
        own = pd.DataFrame({"person": roster["person"], "value": known_text(roster, name)})
        own.index = pd.RangeIndex(-len(own), 0)  # not a row number of a scan
        known = pd.concat([known, own])
    known = known[known["value"] != ""]
    changes = bool(len(repeated_people(known[~known.duplicated()])))
    use = known.loc[known.index.isin(baseline_rows.index)] if changes else known
    values = use[~use["person"].duplicated()]
    if values.empty:
        raise TableError(
            f"{option} {name}: no value before randomisation is known.",
            hint="It changes between visits, and only the baseline row may be adjusted for."
            if changes
            else "Every cell of the column is empty.",
        )
    refuse_unclear_categories(f"{option} {name}", values["value"])
    return merged(people, values).fillna("")


def refuse_unclear_categories(name: str, values: pd.Series[str]) -> None:
    """Refuse words among numbers, and so many words that they must be numbers written wrongly.

    A covariate of words enters as categories: one ``65 y`` among ages would silently turn all of
    them into categories. ``values`` has one known value per participant.
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
