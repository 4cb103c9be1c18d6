"""What a site may send: thin cells are refused, and so is what two summaries give away together.

Sums of two sets of people can be subtracted: whoever has both knows the sums of those who are in
one alone. So every two sets that leave the site, today's and those in its ledger, must be equal or
differ by at least the least cell, either way (``pooling.md`` section 9).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import EstimationError, InputError, Problem
from ...privacy.suppression import is_disclosive
from ...records import CohortTable
from ..endpoint.columns import covariate_numbers
from ..first_stage.arm_sums import ArmSums
from ..first_stage.first_stage import FirstStage
from ..options import PoolingOptions
from ..subgroups.modifiers import LEAST_IN_CELL, ModifierSums
from ..subgroups.rows import modifiers_of
from .site import SiteSummary, model_of

LEAST_TRIAL = 20
PEOPLE_A_COLUMN = 10

Sets = dict[tuple[str, str, str], frozenset[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A summary ready to leave, and the set of people behind each of its parts.

    ``sets`` is keyed by (analysis, trial, arm); the members are row labels of ``stage.people``.
    """

    site: SiteSummary
    sets: Sets


def guarded_summary(stage: FirstStage, table: CohortTable, options: PoolingOptions) -> Release:
    """The sums of every cell that may leave; EstimationError where none may."""
    refused: list[str] = []
    least = max(options.min_cell, LEAST_IN_CELL)
    trials, sets = _trials(stage, options, refused)
    if not trials:
        raise EstimationError(
            "No trial may be summarised: " + " ".join(refused),
            hint="Each needs two arms of at least --min-cell people, 20 people in all and ten a "
            "column of the model.",
        )
    kept = {sums.trial for sums in trials}
    analysed = [trial for trial in stage.trials if trial.trial in kept]
    arms = sorted({arm for sums in trials for arm in sums.active}) if options.by else []
    modifiers = [
        _modifier(one, sets, options.min_cell, refused)
        for arm in arms
        for one in modifiers_of(analysed, stage.people, arm, options, least=least)
    ]
    site = SiteSummary(
        model=model_of(options),
        covariates=_kinds(stage, options),
        trials=tuple(trials),
        modifiers=tuple(one for one in modifiers if one.sums),
        imputed=tuple(trial.trial for trial in analysed if trial.imputed),
        refused=tuple(refused),
        conventions=table.conventions,
        min_cell=options.min_cell,
    )
    return Release(site=site, sets=sets)


def _kinds(stage: FirstStage, options: PoolingOptions) -> dict[str, str]:
    """Whether each covariate enters as a number or as levels: sites must agree."""
    names = dict.fromkeys((*stage.endpoint.covariates, *options.by_columns))
    return {
        name: "levels" if covariate_numbers(stage.people[f"covariate {name}"]) is None else "number"
        for name in names
    }


def _trials(
    stage: FirstStage, options: PoolingOptions, refused: list[str]
) -> tuple[list[ArmSums], Sets]:
    sets: Sets = {}
    found = []
    rows = {trial.trial: trial.rows for trial in stage.trials}
    for sums in stage.sums:
        thin = [arm for arm, part in sums.arms.items() if part.n < options.min_cell]
        arms = {arm: part for arm, part in sums.arms.items() if arm not in thin}
        refused += [
            f"trial {sums.trial}: fewer than {options.min_cell} people in {a}." for a in thin
        ]
        total = sum(part.n for part in arms.values())
        if sums.control not in arms or len(arms) < 2:
            refused.append(f"trial {sums.trial}: no two arms are left.")
        elif total < LEAST_TRIAL:
            refused.append(f"trial {sums.trial}: fewer than {LEAST_TRIAL} people.")
        elif len(sums.columns) * PEOPLE_A_COLUMN > total:
            refused.append(f"trial {sums.trial}: fewer than ten people a column of the model.")
        else:
            found.append(replace(sums, arms=arms))
            arm_of = rows[sums.trial]["arm"]
            for arm in arms:
                sets["main", sums.trial, arm] = frozenset(arm_of.index[arm_of == arm])
    return found, sets


def _modifier(one: ModifierSums, sets: Sets, min_cell: int, refused: list[str]) -> ModifierSums:
    """The modifier with the trials that may leave; their sets of people are added to ``sets``."""
    label = f"{one.name}{' in bands' if one.banded else ''}"
    kept = []
    refused += [
        f"trial {trial}: {label} {level}: fewer than {min_cell} people in an arm."
        for trial, level in one.left_out
    ]
    for sums in one.sums:
        own: Sets = {(label, sums.trial, arm): one.members[sums.trial, arm] for arm in sums.arms}
        total = sum(part.n for part in sums.arms.values())
        if len(sums.columns) * PEOPLE_A_COLUMN > total:
            refused.append(f"trial {sums.trial}: {label}: fewer than ten people a column.")
        elif any(
            _tells_few(members, earlier, min_cell)
            for (_, trial, arm), members in own.items()
            for (_, at, of), earlier in sets.items()
            if (trial, arm) == (at, of)
        ):
            refused.append(
                f"trial {sums.trial}: {label}: fewer than {min_cell} people without a usable value "
                "would be known by subtraction."
            )
        else:
            sets.update(own)
            kept.append(sums)
    names = {sums.trial for sums in kept}
    counts = {key: n for key, n in one.counts.items() if key[0] in names}
    return replace(one, sums=tuple(kept), counts=counts)


def _tells_few(first: frozenset[Any], second: frozenset[Any], min_cell: int) -> bool:
    return any(0 < len(part) < min_cell for part in (first - second, second - first))


# ------------------------------------------------------------------ the ledger


def ledger_entries(release: Release, stage: FirstStage, key: bytes) -> dict[str, list[str]]:
    """The sets that leave, as keyed hashes of ids: ``trial / arm / analysis`` to people."""
    ids = {
        label: _hash(key, str(trial), str(person))
        for label, trial, person in zip(
            stage.people.index, stage.people["trial"], stage.people["participant_id"], strict=True
        )
    }
    return {
        f"{trial}\t{arm}\t{analysis}": sorted(ids[label] for label in members)
        for (analysis, trial, arm), members in release.sets.items()
    }


def _hash(key: bytes, trial: str, person: str) -> str:
    return hmac.new(key, f"{trial}\t{person}".encode(), hashlib.sha256).hexdigest()[:24]


def check_ledger(
    entries: Mapping[str, Sequence[str]],
    earlier: Iterable[Mapping[str, Sequence[str]]],
    min_cell: int,
) -> None:
    """InputError where sets of a trial, earlier ones among them, tell of a few people.

    Two that differ by a few are named. Several may do what no two can (everybody less the women
    less all but one of the men): whatever sums and differences give is looked at (`is_disclosive`).
    """
    earlier = list(earlier)
    problems = _together(entries, earlier, min_cell)
    new = {name: frozenset(people) for name, people in entries.items()}
    for number, before in enumerate(earlier, start=1):
        for name, people in before.items():
            trial = name.split("\t")[0]
            old = frozenset(people)
            problems += [
                Problem(
                    where=f"trial {trial}",
                    what=f"it differs by fewer than {min_cell} people from summary {number} of "
                    "this site",
                    why="Subtracting the two would tell about these few people.",
                )
                for mine, members in new.items()
                if mine.split("\t")[0] == trial
                and members & old
                and _tells_few(members, old, min_cell)
            ]
    if problems:
        # The pair that is named says more than that there are some.
        problems.sort(key=lambda problem: "together" in problem.what)
        raise InputError(
            "This summary must not leave the site.",
            hint="Send the earlier file, or change the analysis by more people at once.",
            problems=list(dict.fromkeys(problems)),
        )


def _together(
    entries: Mapping[str, Sequence[str]], earlier: Sequence[Mapping[str, Sequence[str]]], least: int
) -> list[Problem]:
    """A problem for each trial of which all sets tell a few people, where earlier ones did not."""
    before: dict[str, set[frozenset[str]]] = {}
    for summary in earlier:
        for name, people in summary.items():
            before.setdefault(name.split("\t")[0], set()).add(frozenset(people))
    after = {trial: set(sets) for trial, sets in before.items()}
    for name, people in entries.items():
        after.setdefault(name.split("\t")[0], set()).add(frozenset(people))
    return [
        Problem(
            where=f"trial {trial}",
            what=f"together with the earlier summaries it tells of fewer than {least} people",
            why="Adding and subtracting sums would give these people's.",
        )
        for trial, sets in sorted(after.items())
        if sets != before.get(trial)
        and is_disclosive(sets, least)
        and not is_disclosive(before.get(trial, set()), least)
    ]
