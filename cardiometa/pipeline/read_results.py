"""One scan of an output of ``segment`` read back: the model's own masks, measures and grid.

Of a scan that a reader corrected the model's own result is taken, which the record keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from ..evaluation.overlap import ModelScan
from ..files import read_json, sha256_bytes
from ..measurement.measures import MEASURES
from ..reading.label_file import LabelFileError, ScanGrid, grid_of_mask, read_labels
from ..reading.labels.targets import UnusableError
from ..records import ScanKey
from .result_file import MODEL_SEGMENTATION_NAME, RESULT_NAME, SEGMENTATION_NAME, scan_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedScan:
    """The model's result of one scan; ``corrected``: a reader's mask stands in its place.

    ``segmented_frames``: of a run with ``--frames ed-es``, which of the source's the mask holds.
    """

    model: ModelScan
    grid: ScanGrid
    corrected: bool
    series_regex: str | None
    segmented_frames: tuple[int, ...] | None = None


def read_segmented(out: Path, key: ScanKey, row: pd.Series) -> SegmentedScan:
    """The model's result of a scan; ``row`` its row of the measurements. Raises UnusableError.

    The mask must be the very file that the record names: a mask changed in place is not the
    model's.
    """
    folder = scan_folder(out, key)
    try:
        document = read_json(folder / RESULT_NAME)
        corrected = "model_result" in document
        own = document["model_result"] if corrected else document
        name = MODEL_SEGMENTATION_NAME if corrected else SEGMENTATION_NAME
        data = (folder / name).read_bytes()
        expected = own["outputs"][SEGMENTATION_NAME]
    except (InputError, OSError, KeyError, TypeError):
        raise UnusableError(
            "no-mask", "The scan's record or mask is missing from OUT or damaged."
        ) from None
    if sha256_bytes(data) != expected:
        raise UnusableError(
            "mask-changed",
            "The scan's mask is not the one that its record names. Run `segment` again; mended "
            "masks come in by its option --corrections.",
        )
    try:
        grid = grid_of_mask(data)
        labels = read_labels(data, grid)
        if own["status"] == "failed":
            raise UnusableError("failed", "The model's own result was rejected by the checks.")
        model = _model(own, grid, labels, _measures(own, row, corrected=corrected))
    except (LabelFileError, KeyError, TypeError, ValueError):
        raise UnusableError("no-mask", "The scan's record or mask is damaged.") from None
    options = own.get("options", {})
    chosen = own.get("segmented_frames")
    return SegmentedScan(
        model=model,
        grid=grid,
        corrected=corrected,
        series_regex=options.get("series_regex"),
        segmented_frames=None if chosen is None else tuple(int(number) for number in chosen),
    )


def _measures(
    own: Mapping[str, Any], row: pd.Series, *, corrected: bool
) -> dict[str, float | None]:
    """The model's measures by name: the table's, but a corrected scan's own from its record."""
    source: Any = own["measures"] if corrected else row
    values: dict[str, float | None] = {}
    for measure in MEASURES:
        value = source.get(measure.name)
        number = float("nan") if value is None else float(value)
        values[measure.name] = number if np.isfinite(number) else None
    return values


def _model(
    own: Mapping[str, Any], grid: ScanGrid, labels: np.ndarray, measures: Mapping[str, float | None]
) -> ModelScan:
    """Geometry and phases from the record; frames there are in the source's numbering."""
    facts = own["measures"]
    # The record's spacing is what was measured with; the header tells pixels that are not square.
    columns, rows = (float(np.linalg.norm(grid.affine[:3, axis])) for axis in (0, 1))
    stretch = np.sqrt(rows / columns)
    spacing = float(facts["spacing_mm"])
    details = own.get("details", {})
    flags = {flag["code"] for flag in own["flags"]}
    ed, es = (_index(own, facts[name]) for name in ("ed_frame", "es_frame"))
    return ModelScan(
        labels=labels,
        spacing_mm=(spacing * float(stretch), spacing / float(stretch)),
        slice_distance_mm=float(facts["slice_distance_mm"]),
        ed_frame=ed,
        es_frame=es,
        measures=measures,
        rv_at_lv_phases=details.get("rv_at_lv_phases") or {},
        even_slices="irregular_gaps" not in flags,
    )


def _index(own: Mapping[str, Any], frame: Any) -> int:
    """The place in the mask of a frame of the source."""
    segmented = own.get("segmented_frames")
    if segmented:
        return [int(f) for f in segmented].index(int(frame))
    return int(frame)
