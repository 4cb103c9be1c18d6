"""The rows of the evaluation's tables, in the order of their columns (see `agreement.flat`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..records import Exclusion
from ..statistics.measurement_error import MeasurementError
from .agreement import Estimate, Verdict
from .options import EvaluationOptions

if TYPE_CHECKING:
    import pandas as pd


ScansUsed = Literal["ok+review", "ok", "not-trained-on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementRow:
    """One row of ``agreement.csv``: a measure in a group; differences are model - reference."""

    against: str
    measure: str
    unit: str
    scope: str
    scans_used: ScansUsed
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    mean_reference: float | None = None
    bias: Estimate | None = None
    sd: float | None = None
    loa_lower: Estimate | None = None
    loa_upper: Estimate | None = None
    loa_method: str = ""
    slope: Estimate | None = None
    mae: Estimate | None = None
    rmse: float | None = None
    cov_percent: float | None = None
    icc: Estimate | None = None
    ccc: Estimate | None = None
    reliability_ci: str = ""
    ci_level: float = 95.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapSummary:
    """One row of ``overlap_summary.csv``; the interval is of the mean, bootstrapped.

    Structures in neither mask have no Dice, those in one alone no distance: ``n_without`` counts
    the scans that thus have no value.
    """

    metric: str
    unit: str
    structure: str
    phase: str
    scope: str
    scans_used: ScansUsed
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    n_without: int | None = None
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = 95.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeRow:
    """One row of ``grades.csv``: agreement of graded EF."""

    against: str
    measure: str
    scheme: str
    scope: str
    scans_used: ScansUsed
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    percent_agreement: float | None = None
    kappa: Estimate | None = None
    kappa_linear: Estimate | None = None
    kappa_quadratic: Estimate | None = None
    kappa_ci: str = ""
    ci_level: float = 95.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceRow:
    """One row of ``equivalence.csv``: a bias, or its difference from the rest, and a margin.

    ``estimate`` is of participants' mean differences (model - reference); ``p_equivalence`` the
    larger p of the two one-sided tests. Of trials and vendors there is also the bias that is
    partially pooled over them.
    """

    against: str
    measure: str
    unit: str
    scope: str
    kind: Literal["bias", "bias, partially pooled", "difference from the rest"]
    group_by: str = "all"
    group: str = "all"
    n_people: int | None = None
    n_rest: int | None = None
    margin: float | None = None
    margin_source: str = ""
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = 90.0
    p_equivalence: float | None = None
    result: Verdict | Literal[""] = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatabilityRow:
    """One row of ``repeatability.csv``: scan-rescan of a measure by the model or the reference."""

    source: Literal["model", "reference"]
    measure: str
    unit: str
    visit_a: str
    visit_b: str
    n_people: int | None = None
    mean: float | None = None
    bias: Estimate | None = None
    cov_percent: float | None = None
    sem: Estimate | None = None
    sdc: Estimate | None = None
    icc: Estimate | None = None
    ci_level: float = 95.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceErrorRow:
    """One row of ``slice_errors.csv``: slices that one of model and reader counted at an end.

    ``error``: ``false-positive`` slices have the structure in the model's mask alone,
    ``false-negative`` ones in the reader's alone. ``n_events`` of ``n_scans`` have any, with
    Wilson's 95 % interval; ``n_slices`` are the slices, of ``n_reference`` that the reader counted.
    """

    structure: str
    phase: str
    end: Literal["base", "apex"]
    error: Literal["false-positive", "false-negative"]
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    n_reference: int | None = None
    n_slices: int | None = None
    n_events: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeErrorRow:
    """One row of ``large_errors.csv``: scans whose error of EF is above ``limit`` points.

    ``percent`` of ``n_scans``, with Wilson's 95 % interval; ``n_ok`` of ``n_events`` were ``ok``.
    """

    measure: str
    scope: str
    limit: float
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    n_events: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_ok: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow:
    """One row of ``interval_coverage.csv``: how often model ± z·SD holds the reference's value.

    SD is the model's own of the scan (``<measure>_sd``), ``level`` the nominal share in per cent,
    ``percent`` the observed one with Wilson's 95 % interval; ``mean_sd`` is the root mean square of
    the SDs, ``sd_ratio`` that of error over SD, 1 where the SDs are right.
    """

    measure: str
    unit: str
    scope: str
    level: float
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    mean_sd: float | None = None
    sd_ratio: float | None = None
    note: str = ""


RateKind = Literal["correction", "rejection", "failure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """One row of ``rates.csv``: how often masks were corrected, or scans failed, in a group.

    ``sample``: ``flagged`` (all scans for review), ``random`` (a random share of the others, which
    represents them), or ``all`` scans for failures. ``n_people`` of ``n_scans``; the interval is
    Wilson's over scans, at 95 %.
    """

    kind: RateKind
    sample: str
    group_by: str
    group: str
    n_people: int | None = None
    n_scans: int | None = None
    n_events: int | None = None
    percent: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was compared, scan by scan.

    ``scans`` has one row per compared scan of OUT (trial, participant_id, visit, status, group
    columns, ``trained_on``: the model was trained on the participant); ``pairs``, ``overlaps`` and
    ``slices`` have ``scan`` (the position in ``scans``) and the fields of `ScanPair`, `ScanOverlap`
    and `SliceCounts`; ``exclusions`` are all other scans of OUT. ``training_known``: the model's
    card names the participants that it was trained on, and they can be recognised.
    """

    scans: pd.DataFrame
    pairs: pd.DataFrame
    overlaps: pd.DataFrame
    slices: pd.DataFrame
    exclusions: tuple[Exclusion, ...]
    scans_in: int
    warnings: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    papillary: Mapping[str, int] = field(default_factory=dict)
    training_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """An evaluation: its tables, and what they were made from."""

    name: str
    options: EvaluationOptions
    model: Mapping[str, str]
    compared: Compared
    agreement: Sequence[AgreementRow] = ()
    overlap: Sequence[OverlapSummary] = ()
    grades: Sequence[GradeRow] = ()
    equivalence: Sequence[EquivalenceRow] = ()
    repeatability: Sequence[RepeatabilityRow] = ()
    slices: Sequence[SliceErrorRow] = ()
    large_errors: Sequence[LargeErrorRow] = ()
    coverage: Sequence[CoverageRow] = ()
    error: MeasurementError | None = None
    warnings: tuple[str, ...] = ()
