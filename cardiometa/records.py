"""The frozen records that cross the borders of several folders.

Units are in the names. Arrays are numpy; axes are named in brackets, ``[t, z, y, x]`` being phase,
slice, row, column. This module imports the standard library alone, so that start-up stays quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Level = Literal["info", "review", "reject"]
Status = Literal["ok", "review", "failed"]
Severity = Literal["serious", "note"]

BACKGROUND, LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY = 0, 1, 2, 3
SEXES = ("male", "female")
ETHNICITIES = ("white", "black", "south-asian", "chinese", "mixed-other", "asian-unspecified")


# ------------------------------------------------------------------ scans and images


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ScanKey:
    """One short-axis cine: one participant of one trial at one visit."""

    trial: str
    participant: str
    visit: str

    def __str__(self) -> str:
        """``trial/participant/visit``: the scan's folder below ``scans/``."""
        return f"{self.trial}/{self.participant}/{self.visit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSource:
    """Where one scan's images lie: ``images`` is one folder, zip or file; ``ed-es`` two NIfTIs."""

    kind: Literal["images", "ed-es"]
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One finding about a scan: ``code`` is fixed, ``sentence`` is for readers."""

    code: str
    level: Level
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files or a series that were not used, counted by reason; never a file or patient name."""

    code: str
    count: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CineSource:
    """What the reader found out about a cine, for ``result.json``.

    ``sha256`` is over the pixel-bearing files in order; unknown facts are None, never guessed.
    ``marks`` recognise the same images elsewhere (`imaging.read.source_marks`).
    """

    format: Literal["dicom", "dicom-enhanced", "nifti-4d", "nifti-frames", "nifti-ed-es"]
    sha256: str
    files: int
    vendor: str | None = None
    field_strength_t: float | None = None
    sequence: Literal["bssfp", "gre"] | None = None
    heart_rate_bpm: float | None = None
    rr_ms: float | None = None
    thickness_mm: float | None = None
    frame_ms: float | None = None
    time_key: str | None = None
    spacing_source: str | None = None
    series_reason: str = ""
    left_out: tuple[LeftOut, ...] = ()
    flags: tuple[Flag, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """Which DICOM image one phase of one slice is; ``frame`` counts from 1, None in classic files.

    UIDs as the header has them, or empty: they stay in memory. ``file`` numbers the files of the
    cine, because anonymisers give several of them one UID.
    """

    file: int
    sop_class: str
    sop_instance: str
    series: str
    frame: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomOrigin:
    """The DICOM images behind a cine, and the planes its labels lie in.

    ``images`` by phase, then slice; ``directions`` ``[2, 3]`` unit LPS vectors along a row and
    along a column; ``slice_origins_mm`` ``[z, 3]`` LPS centre of each slice's first voxel;
    ``resampled`` by slice: the source lies on another plane or grid.
    """

    study: str
    frame_of_reference: str
    images: tuple[tuple[SourceImage, ...], ...]
    directions: np.ndarray
    slice_origins_mm: np.ndarray
    resampled: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CineStack:
    """One short-axis cine in memory.

    ``pixels`` float32 ``[t, z, y, x]``; ``affine`` 4×4 from voxel (x, y, z) to RAS mm, the one the
    masks are written with; ``spacing_mm`` (between rows, between columns), the lengths to measure
    with; ``slice_weights_mm`` ``[z]`` (the length of heart each slice represents: the distance,
    or half the two gaps where gaps are irregular); ``slice_distance_mm`` median;
    ``frame_times_ms`` ``[t]`` from the R wave, NaN where unknown.
    ``frame_numbers`` ``[t]``: the source's number of each phase, from 0; ``origin`` None unless
    the source is DICOM. ``phases_of_source``: their number where only ED and ES were taken out
    of them; else None.
    """

    pixels: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple[float, float]
    slice_weights_mm: np.ndarray
    slice_distance_mm: float
    frame_times_ms: np.ndarray
    frame_numbers: np.ndarray
    source: CineSource
    origin: DicomOrigin | None = None
    phases_of_source: int | None = None

    @property
    def is_ed_es_pair(self) -> bool:
        """True where the stack is an ED and an ES volume, in that order."""
        return self.source.format == "nifti-ed-es" or self.phases_of_source is not None

    def ed_es_only(self, ed: int, es: int) -> CineStack:
        """The cine with the phases ``ed`` and ``es`` (indices) alone, in that order.

        They keep the source's numbers and times. A cine that is such a pair already stays as it is.
        """
        if self.is_ed_es_pair:
            return self
        two = [ed, es]
        origin = self.origin
        if origin is not None:
            origin = replace(origin, images=tuple(origin.images[t] for t in two))
        return replace(
            self,
            pixels=self.pixels[two],
            frame_times_ms=self.frame_times_ms[two],
            frame_numbers=self.frame_numbers[two],
            origin=origin,
            phases_of_source=self.pixels.shape[0],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanQuality:
    """What the network's own doubt says of the labels of one scan.

    ``frames`` are the indices of the frames of the largest and the smallest LV; ``features`` lie in
    0 to 1, higher is better; ``predicted_dice`` is the mean Dice over the three structures and both
    frames that the model's calibration predicts from them, None where the model's card has no
    calibration.
    """

    frames: tuple[int, int]
    features: Mapping[str, float]
    predicted_dice: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanDoubt:
    """What may be wrong with the labels of two frames, the largest and the smallest LV.

    ``views_ml`` ``[2, v, 3]``: volume of LV cavity, myocardium and RV cavity by each view alone,
    NaN where unknown. By slice ``z``: ``at_stake_ml`` ``[2, z, 3]``, the volume that the slice has
    or would have; ``likely`` ``[2, z, 2]``, the probability that it has LV and RV cavity;
    ``counted`` ``[2, z, 2]``, whether it is measured; ``from_base`` ``[z]``, its number from the
    base of the heart, None where the base is not known.
    """

    frames: tuple[int, int]
    views_ml: np.ndarray
    at_stake_ml: np.ndarray
    likely: np.ndarray
    counted: np.ndarray
    from_base: np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelStack:
    """Labels of a cine on its own grid.

    ``labels`` uint8 ``[t, z, y, x]`` (0 background, 1 LV cavity, 2 LV myocardium, 3 RV cavity);
    ``confidence`` float32 ``[t, z]``: mean largest class probability in the border band of the
    predicted structures, NaN in slices without one; ``quality`` and ``doubt`` None where labels
    have none (no network, or a reader corrected them).
    """

    labels: np.ndarray
    confidence: np.ndarray
    model_id: str
    model_sha256: str
    flags: tuple[Flag, ...] = ()
    quality: ScanQuality | None = None
    doubt: ScanDoubt | None = None


class Predictor(Protocol):
    """A loaded network: batches of normalised crops in, class probabilities out."""

    @property
    def context_slices(self) -> int:
        """Channels per slice: itself, or itself between its neighbours."""

    def probabilities(self, crops: np.ndarray) -> np.ndarray:
        """``[n, context, size, size]`` float32 to ``[n, 4, size, size]`` float32 in 0 to 1."""


# ------------------------------------------------------------------ measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number from a scan; ``value`` None where it cannot be given."""

    name: str
    value: float | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySize:
    """Height and weight of a participant, None where unknown."""

    height_cm: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured on one labelled cine.

    ``measures`` has every name of the contract's measurement columns that a scan can give
    (volumes, EF, mass, CO, BSA, indices, frames, spacing …); ``curves`` the volume of each
    structure by phase (``lv_ml``, ``myocardium_ml``, ``rv_ml``; ``[t]``); ``details`` whatever
    else goes into ``result.json`` (sensitivity to a basal slice, RV at LV phases …).
    """

    measures: tuple[Measure, ...]
    curves: Mapping[str, np.ndarray]
    ed_frame: int
    es_frame: int
    flags: tuple[Flag, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """The commit record of one scan: what ``result.json`` contains.

    ``measures`` maps each name to its value (None: not available); ``facts`` what the
    source said (vendor, sequence, …); ``document`` is the complete JSON document.
    """

    key: ScanKey
    status: Status
    measures: Mapping[str, float | int | None]
    facts: Mapping[str, Any]
    flags: tuple[Flag, ...]
    document: Mapping[str, Any]


# ------------------------------------------------------------------ participants and tables


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A scan or participant that is not analysed, with the one reason: a row of exclusions.csv."""

    stage: Literal["scan", "participant"]
    trial: str
    participant_id: str
    visit: str
    code: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortTable:
    """A harmonised table for the statistics commands.

    ``rows`` has the contract's column names, harmonised codes, ids as text, missing as NaN/NA;
    ``measures`` the measure columns present; ``conventions`` the facts that must not be mixed
    (model_id, model_sha256, papillary, bsa_formula, sequence), each with the values met;
    ``exclusions`` what reading left out (failed scans …), whose rows are in ``unused``, because
    the participant's arm stays true; ``warnings`` sentences for the report (`SeriousWarning`, or
    plain strings: notes). ``columns`` has the user's name of each harmonised column that
    has another one, ``healthy_rule`` how the trials say that healthy was defined.
    """

    rows: pd.DataFrame
    name: str
    sha256: str
    measures: tuple[str, ...]
    conventions: Mapping[str, tuple[str, ...]]
    exclusions: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    unused: pd.DataFrame | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    healthy_rule: str = ""

    def name_of(self, column: str) -> str:
        """The name in ``rows`` of a column that the user calls ``column``."""
        own = {theirs: ours for ours, theirs in self.columns.items()}
        return column if column in self.rows else own.get(column, column)


# ------------------------------------------------------------------ warnings


class SeriousWarning(str):
    """A warning that can change what a result means; a plain string among warnings is a note.

    Serious ones are printed whatever ``--quiet`` and come first on the page and in ``--json``.
    It is a string, so that it goes wherever sentences go; f-strings and ``+`` make a note of it.
    """

    __slots__ = ()


class InputNotice(str):
    """A note of how the input was understood: format, columns recognised or left out.

    It is printed unless ``--quiet`` is given, and shown in the report with the other notes.
    """

    __slots__ = ()


def severity(warning: str) -> Severity:
    """``serious`` or ``note``."""
    return "serious" if isinstance(warning, SeriousWarning) else "note"


def serious_first(warnings: Iterable[str]) -> tuple[str, ...]:
    """Each warning once, the serious ones first, otherwise in the order given."""
    ordered = sorted(warnings, key=lambda one: severity(one) == "note")
    return tuple(dict.fromkeys(ordered))


# ------------------------------------------------------------------ reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table for the page: ``columns`` are headings, ``rows`` are shown text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
