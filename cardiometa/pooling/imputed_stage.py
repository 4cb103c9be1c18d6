"""The first stage on imputed data: a model in each completed data set, Rubin, then one study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from .eligible import Analysed, analysed_trials
from .endpoint import Endpoint
from .impute import IMPUTED, TOO_FEW, completed, imputable, predictors
from .options import PoolingOptions
from .records import Study
from .rubin import combine
from .trial_studies import studies_of, sums_of


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
