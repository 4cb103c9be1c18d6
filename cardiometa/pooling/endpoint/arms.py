"""Whether there is anything to compare: two randomised arms, one of them the control."""

from __future__ import annotations

import pandas as pd

from ...errors import Problem, TableError
from ..options import PoolingOptions


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
