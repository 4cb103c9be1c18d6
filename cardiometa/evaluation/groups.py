"""Groups of scans, and the sets of scans that each row of a table is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from ..privacy.suppression import Count
from ..records import ETHNICITIES, SEXES
from . import agreement
from .agreement import Estimate
from .options import EvaluationOptions
from .results import Compared, ScansUsed

ALL: Final = "all"
GROUPINGS: Final = ("sex", "age_band", "ethnicity", "vendor", "field_strength", "trial")
# Scans of participants that the model was not trained on.
UNSEEN: Final[ScansUsed] = "not-trained-on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one group: ``mask`` over the rows given, and how many participants they are."""

    by: str
    name: str
    mask: np.ndarray
    participants: Count


def add_group_columns(rows: pd.DataFrame, age_bands: Sequence[float]) -> pd.DataFrame:
    """The rows with a text column for each of `GROUPINGS`, and ``arm``; None where unknown."""
    result = rows.copy()
    for name in ("sex", "ethnicity", "vendor", "arm"):
        values = rows[name].astype(object) if name in rows else [None] * len(rows)
        result[name] = [v if isinstance(v, str) and v else None for v in values]
    result["trial"] = rows["trial"].astype(str)
    bands = [f"<{age_bands[0]:g}", *(_band(a, b) for a, b in pairwise(age_bands))]
    bands.append(f"{age_bands[-1]:g}+")
    result["age_band"] = [
        bands[int(np.searchsorted(age_bands, age, "right"))] if np.isfinite(age) else None
        for age in _numbers(rows, "age_years")
    ]
    strengths = _numbers(rows, "field_strength_t")
    result["field_strength"] = [f"{v:g} T" if np.isfinite(v) else None for v in strengths]
    return result


def _numbers(rows: pd.DataFrame, name: str) -> np.ndarray:
    if name not in rows:
        return np.full(len(rows), np.nan)
    return np.asarray(pd.to_numeric(rows[name], errors="coerce").astype(float))


def _band(low: float, high: float) -> str:
    """``30-39`` for [30, 40); ``17.5-<30`` where the ends are not integers."""
    years = float(low).is_integer() and float(high).is_integer()
    return f"{low:g}-{high - 1:g}" if years else f"{low:g}-<{high:g}"


def participant_codes(rows: pd.DataFrame) -> np.ndarray:
    """An integer for each participant of each trial, equal for all their scans."""
    keys = pd.MultiIndex.from_frame(rows[["trial", "participant_id"]].astype(str))
    return np.asarray(pd.factorize(keys)[0])


def _in_order(by: str, names: set[str]) -> list[str]:
    """Sexes and ethnicities as the contract lists them, ages by age, all else by name."""
    if by == "age_band":
        ends = {n: -1.0 if n[0] == "<" else float(n.rstrip("+").partition("-")[0]) for n in names}
        return sorted(names, key=ends.__getitem__)
    fixed = SEXES if by == "sex" else ETHNICITIES if by == "ethnicity" else ()
    known = [name for name in fixed if name in names]
    return known + sorted(names - set(known))


def groups_of(
    rows: pd.DataFrame,
    groupings: Sequence[str] = GROUPINGS,
    in_order: Callable[[str, set[str]], list[str]] = _in_order,
) -> Iterator[Group]:
    """All participants, then each group of each of ``groupings`` that the rows are in.

    ``rows`` has the columns of `add_group_columns`.
    """
    codes = participant_codes(rows)
    total = len(np.unique(codes))
    yield Group(by=ALL, name=ALL, mask=np.ones(len(rows), dtype=bool), participants=Count(total))
    for by in groupings:
        # A join makes NaN of an unknown None.
        values = np.array([v if isinstance(v, str) and v else None for v in rows[by]], dtype=object)
        names = in_order(by, {v for v in values if v is not None})
        masks = [values == name for name in names]
        counts = [len(np.unique(codes[mask])) for mask in masks]
        for place, (name, mask) in enumerate(zip(names, masks, strict=True)):
            participants = Count(counts[place], counts, total, place)
            yield Group(by=by, name=name, mask=mask, participants=participants)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisSet:
    """The scans of one row, their participants' codes, and the cells that identify the row.

    ``name`` separates the random numbers of its bootstraps from those of other rows.
    """

    rows: pd.DataFrame
    participants: np.ndarray
    cells: dict[str, Any]
    name: str

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """The values of model and reference."""
        model, reference = (self.rows[n].to_numpy(dtype=float) for n in ("model", "reference"))
        return model, reference

    @property
    def repeated(self) -> bool:
        """True where a participant has several scans."""
        return len(np.unique(self.participants)) < len(self.participants)

    def redrawn(
        self,
        name: str,
        found: Estimate | None,
        terms: np.ndarray,
        statistic: Callable[[np.ndarray], np.ndarray],
        options: EvaluationOptions,
    ) -> Estimate | None:
        """The estimate, where scans are repeated with the bootstrap interval of its sums."""
        if found is None or not self.repeated:
            return found
        ends = agreement.interval(
            terms, self.participants, statistic, options, name=f"{name} {self.name}"
        )
        return Estimate(value=found.value, low=ends and ends[0], high=ends and ends[1])


def tables_of(
    compared: Compared, frame: pd.DataFrame, keys: list[str]
) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows of a frame by key, each with the columns of its scan."""
    if frame.empty:
        return
    joined = frame.join(compared.scans, on="scan")
    for key, rows in joined.groupby(keys, sort=False):
        yield tuple(str(k) for k in key), rows.reset_index(drop=True)


def analysis_sets(
    compared: Compared, frame: pd.DataFrame, keys: list[str], options: EvaluationOptions
) -> Iterator[AnalysisSet]:
    """For each table all scans in every group, then parts of all, where they are not all.

    The parts: without scans for review; without participants that the model was trained on.
    ``keys`` are columns of the frame and of the row, ``scope`` among them.
    """
    for key, rows in tables_of(compared, frame, keys):
        codes = participant_codes(rows)
        sets: list[tuple[ScansUsed, Group]] = [("ok+review", g) for g in groups_of(rows)]
        every = len(np.unique(codes))
        kept: tuple[tuple[ScansUsed, np.ndarray], ...] = (
            ("ok", (rows["status"] != "review").to_numpy(dtype=bool)),
            (UNSEEN, ~rows["trained_on"].to_numpy(dtype=bool)),
        )
        for used, mask in kept:
            if mask.any() and not mask.all():
                left = len(np.unique(codes[mask]))
                participants = Count(left, left_out=every - left)
                sets.append((used, Group(by=ALL, name=ALL, mask=mask, participants=participants)))
        for used, group in sets:
            yield AnalysisSet(
                rows=rows[group.mask],
                participants=codes[group.mask],
                cells={
                    **dict(zip(keys, key, strict=True)),
                    "scans_used": used,
                    "group_by": group.by,
                    "group": group.name,
                    "n_people": group.participants,
                    "n_scans": int(group.mask.sum()),
                    "ci_level": options.ci_level,
                },
                name=" ".join([*key, used, group.by, group.name]),
            )
