"""Scans compared → every table of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from ..errors import InputError
from .options import EvaluationOptions
from .repeatability import repeatability_rows
from .results import Compared, EvaluationResult
from .tables import (
    agreement_rows,
    dice_equivalence_rows,
    equivalence_rows,
    grade_rows,
    overlap_rows,
)


def evaluate(
    name: str,
    model: Mapping[str, str],
    measurements: pd.DataFrame,
    compared: Compared,
    options: EvaluationOptions,
) -> EvaluationResult:
    """Every table of an evaluation; raises InputError where nothing can be compared.

    ``measurements`` are the rows of OUT that are not failed (for repeat visits).
    """
    if options.against is not None and compared.scans.empty:
        reasons = pd.Series([e.code for e in compared.exclusions], dtype=object).value_counts()
        said = ", ".join(f"{code} {count}" for code, count in reasons.items())
        raise InputError(
            f"None of the {compared.scans_in} scans can be compared ({said}).",
            hint="Labels are matched by trial, participant_id and visit; see evaluate --help.",
        )
    repeats = tuple(repeatability_rows(measurements, compared, options))
    if options.repeat_visits is not None and not repeats:
        first, second = options.repeat_visits
        visits = sorted({str(v) for v in measurements["visit"].dropna()})
        raise InputError(
            f"Nobody has a scan at both {first} and {second}.",
            hint=f"Visits here: {', '.join(visits)}.",
        )
    warnings = list(compared.warnings)
    if ", " in model.get("sha256", ""):
        warnings.append("OUT holds scans of several models: their errors are mixed here.")
    scopes = set(compared.pairs["scope"]) if len(compared.pairs) else set()
    if len(scopes) > 1:
        warnings.append(
            "Some scans were compared on their contoured slices alone, others whole: they are "
            "never pooled and stand in rows of their own (column scope)."
        )
    return EvaluationResult(
        name=name,
        options=options,
        model=model,
        compared=compared,
        agreement=tuple(agreement_rows(compared, options)),
        overlap=tuple(overlap_rows(compared, options)),
        grades=tuple(grade_rows(compared, options)),
        equivalence=(
            *equivalence_rows(compared, options),
            *dice_equivalence_rows(compared, options),
        ),
        repeatability=repeats,
        warnings=tuple(warnings),
    )
