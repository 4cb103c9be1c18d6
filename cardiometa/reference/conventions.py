"""Facts that move a measure and must not be mixed in one range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..cohort.parsing import rows_text
from ..errors import Problem, TableError
from .select import People

# What each convention changes: BSA only the measures divided by it, the others every heart volume.
_ALWAYS = ("papillary", "sequence", "model_id", "model_sha256")
_BSA = "bsa_formula"
CONVENTIONS = (*_ALWAYS, "reported_papillary", _BSA)
SCANNERS = ("vendor", "field_strength_t")
_NO_IMAGE = ("heart_rate_bpm", "bsa_m2")


def depends_on(measure: str) -> tuple[str, ...]:
    """The conventions that a measure depends on.

    A trial's own ``reported_*`` values come from no model of ours and have a convention of theirs.
    """
    needs: tuple[str, ...]
    if measure in _NO_IMAGE:
        needs = ()
    elif measure.startswith("reported_"):
        needs = ("reported_papillary", "sequence")
    else:
        needs = _ALWAYS
    if measure.endswith(("_ml_m2", "_g_m2")) or measure == "bsa_m2":
        needs = (*needs, _BSA)
    return needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """One convention of the people: ``code`` ``[people]`` counts into ``values``, -1 unknown."""

    name: str
    values: tuple[str, ...]
    code: np.ndarray

    def met(self, rows: np.ndarray) -> dict[str, int]:
        """The values met among the people ``rows`` (a mask), with how many have each."""
        counts = np.bincount(self.code[rows] + 1, minlength=len(self.values) + 1)[1:]
        return {v: int(c) for v, c in zip(self.values, counts, strict=True) if c}


def read_conventions(people: People, names: Sequence[str] = CONVENTIONS) -> tuple[Convention, ...]:
    """The conventions (or other facts) that the table states."""
    found = []
    for name in names:
        if name in people.frame:
            column = people.frame[name].astype(object)
            text = column.where(column.notna() & (column != ""), None)
            code, values = pd.factorize(text, sort=True)
            found.append(
                Convention(name=name, values=tuple(str(v) for v in values), code=np.asarray(code))
            )
    return tuple(found)


def check_conventions(
    people: People, measures: Sequence[str], *, by_name: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The measures whose conventions are one, and a warning for each left out.

    A mixed BSA formula leaves out the indexed measures, with a warning, unless the user named them
    (``by_name``). Any other mixture, and no measure left, is a TableError with the values, their
    counts and trials.
    """
    good, problems = [], {}
    stated = read_conventions(people)
    for measure in measures:
        has_value = np.isfinite(people.values(measure))
        met = {c.name: c.met(has_value) for c in stated if c.name in depends_on(measure)}
        mixed = {name: values for name, values in met.items() if len(values) > 1}
        if mixed:
            problems[measure] = mixed
        else:
            good.append(measure)
    only_bsa = all(set(mixed) == {_BSA} for mixed in problems.values())
    if problems and (by_name or not good or not only_bsa):
        raise _mixed(people, problems)
    warnings = tuple(
        f"{measure} is left out: its rows mix {_values(mixed)}."
        for measure, mixed in problems.items()
    )
    return tuple(good), warnings


def _values(mixed: Mapping[str, Mapping[str, int]]) -> str:
    return "; ".join(
        f"{name} " + " and ".join(f"{value} ({count} rows)" for value, count in values.items())
        for name, values in mixed.items()
    )


def _mixed(people: People, problems: Mapping[str, Mapping[str, Mapping[str, int]]]) -> TableError:
    listed: dict[tuple[str, str], list[str]] = {}
    for measure, mixed in problems.items():
        for name, values in mixed.items():
            for value in values:
                listed.setdefault((name, value), []).append(measure)
    found = []
    for (name, value), measures in sorted(listed.items()):
        rows = people.frame[name].astype(str) == value
        trials = ", ".join(sorted(set(people.frame["trial"][rows].astype(str))))
        numbers = rows_text(sorted(people.frame.index[rows].tolist()))
        found.append(
            Problem(
                where=f"{name} = {value}",
                what=f"{int(rows.sum())} rows of {trials} ({numbers})",
                why=f"It matters for {', '.join(measures)}.",
            )
        )
    names = sorted({name for name, _ in listed})
    return TableError(
        f"The rows mix conventions ({', '.join(names)}), and a range over them would mean nothing.",
        hint=(
            "A convention moves a limit more than a decade of age does: keep the rows of one value,"
            " or name measures that do not depend on it with --measure."
        ),
        problems=found,
    )
