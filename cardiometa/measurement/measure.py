"""One labelled cine into its measures, curves, flags and details."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..flags import merge_flags, raised, status_of
from ..records import BodySize, CineStack, Flag, LabelStack, Measure, Measurement
from ..segmentation.model import ErrorModel
from .checks import (
    base_at_stack_end,
    curve_flags,
    extent_flags,
    missing_frame_flags,
    physiology_flags,
    predicted_dice_flags,
    shape_flags,
)
from .error import doubt_flags, error_terms, standard_deviations, wall_deviations
from .filling import filling_measures
from .indexing import body_surface_area_m2, indexed
from .measures import ERROR_OF, INDEX_OF, LATER_COLUMNS, MEASURES, SCAN_COLUMNS
from .phases import Extremes, find_extremes
from .volumes import (
    Areas,
    basal_end,
    basal_slice_sensitivity,
    ejection_fraction_percent,
    mass_g,
    structure_areas,
)
from .wall_thickness import measure_wall

# What the labels say; a rejected scan has none of it in its row.
_FROM_LABELS = (
    *(m.name for m in MEASURES if m.name != "heart_rate_bpm"),
    *ERROR_OF.values(),
    *("ed_frame", "es_frame", "rv_ed_frame", "rv_es_frame", "lv_slices_ed", "lv_slices_es"),
)

_Values = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curves:
    """Areas, volume curves in mL ``[t]`` (NaN: the structure is not in the frame), extremes."""

    areas: Areas
    volumes: Mapping[str, np.ndarray]
    lv: Extremes | None
    rv: Extremes | None

    def at(self, structure: str, frame: int) -> float:
        """Volume of ``lv``, ``myocardium`` or ``rv`` in one frame."""
        return float(self.volumes[structure][frame])

    def is_cycle(self, structure: str, found: Extremes) -> bool:
        """True where the smallest volume lies below the largest."""
        return self.at(structure, found.smallest) < self.at(structure, found.largest)


def measure_scan(
    cine: CineStack,
    labels: LabelStack,
    body: BodySize,
    bsa_formula: str,
    kept: Mapping[str, int] | None = None,
    error: ErrorModel | None = None,
) -> Measurement:
    """Measure one labelled cine.

    The measures are those of `SCAN_COLUMNS` and `LATER_COLUMNS`, in that order, with None for what
    cannot be given (an SD needs the card's ``error`` model, and labels that a network made);
    frames among them are in the source's numbering, while ``Measurement.ed_frame`` and
    ``es_frame`` are indices into ``labels`` (0 where no LV was found). Flags of the images, of the
    labels and of the measures come merged; with one that rejects, the measures made from labels
    are None and are kept in ``details["rejected_measures"]``. ``quality`` is the Dice that the
    model's calibration predicts of the labels; labels without it have none.

    An ED/ES pair, given or taken out of a cine, is taken in its order, never swapped, and the RV
    is measured at the same two phases. Otherwise each ventricle's ED and ES are
    the extremes of its own curve; ``details["rv_at_lv_phases"]`` has the RV at the LV's. ``kept``
    names frames that a reader's masks fix whatever the curve says: ``ed_frame``,
    ``es_frame``, ``rv_ed_frame``, ``rv_es_frame`` to indices into ``labels``.

    Raises ValueError where labels and images do not fit together, InputError for a body size that
    no human has, UsageError for an unknown formula.
    """
    if labels.labels.shape != cine.pixels.shape:
        raise ValueError(f"labels {labels.labels.shape} do not fit images {cine.pixels.shape}")
    curves = _curves(cine, labels.labels, kept or {})
    lv, quality = curves.lv, labels.quality
    values = _image_values(cine)
    values["quality"] = None if quality is None else quality.predicted_dice
    bsa_m2 = values["bsa_m2"] = body_surface_area_m2(body.height_cm, body.weight_kg, bsa_formula)
    details: dict[str, Any] = {}
    if lv is not None:
        values |= _heart_values(cine, curves, lv)
        values |= {name: indexed(values.get(of), bsa_m2) for name, of in INDEX_OF.items()}
        details = _details(cine, curves, lv)
        wall, details["segments"] = _wall_values(cine, labels.labels, lv, details["base"])
        values |= wall
    if quality is not None:
        details["quality_features"] = dict(quality.features)
        details["quality_frames"] = [int(cine.frame_numbers[frame]) for frame in quality.frames]
    found = tuple(_flags(cine, labels.labels, curves, values))
    doubts = list(predicted_dice_flags(values["quality"]))
    if labels.doubt is not None and lv is not None:
        details["error_terms"] = terms = error_terms(values, labels.doubt)
        if error is not None:
            doubts += doubt_flags(cine, values, labels.doubt, terms, error)
            values |= standard_deviations(terms, error, cine.source.vendor)
            values |= wall_deviations(values, error)
    flags = merge_flags(cine.source.flags, labels.flags, found, doubts)
    if status_of(flags) == "failed":
        values, details["rejected_measures"] = without_label_measures(values)
    return Measurement(
        measures=tuple(
            Measure(name=column.name, value=values.get(column.name), unit=column.unit)
            for column in (*SCAN_COLUMNS, *LATER_COLUMNS)
        ),
        curves={f"{name}_ml": curve for name, curve in curves.volumes.items()},
        ed_frame=lv.largest if lv else 0,
        es_frame=lv.smallest if lv else 0,
        flags=flags,
        details=details,
    )


def without_label_measures(
    values: Mapping[str, float | None],
) -> tuple[_Values, dict[str, float]]:
    """The measures of a rejected scan, and those of its labels that are known."""
    known = {n: v for n in _FROM_LABELS if (v := values.get(n)) is not None}
    return {name: v for name, v in values.items() if name not in _FROM_LABELS}, known


def _image_values(cine: CineStack) -> _Values:
    """What is known without labels: geometry, time and heart rate."""
    return {
        "heart_rate_bpm": cine.source.heart_rate_bpm,
        "frames": cine.phases_of_source or cine.pixels.shape[0],
        "frame_ms": cine.source.frame_ms,
        "slices": cine.pixels.shape[1],
        "spacing_mm": float(np.sqrt(cine.spacing_mm[0] * cine.spacing_mm[1])),
        "slice_distance_mm": float(cine.slice_distance_mm),
        "thickness_mm": cine.source.thickness_mm,
    }


def lv_extremes(cine: CineStack, labels: np.ndarray) -> Extremes | None:
    """ED and ES of labels ``[t, z, y, x]`` by the LV's curve; None where no frame has an LV."""
    return _curves(cine, labels, {}).lv


def _curves(cine: CineStack, labels: np.ndarray, kept: Mapping[str, int]) -> _Curves:
    areas = structure_areas(labels, cine.spacing_mm, cine.slice_weights_mm)
    volumes = {}
    for name in ("lv", "myocardium", "rv"):
        curve = areas.volume_ml(name)
        volumes[name] = np.where(curve > 0, curve, np.nan)
    lv, rv = (_extremes(cine, volumes[name]) for name in ("lv", "rv"))
    return _Curves(
        areas=areas,
        volumes=volumes,
        lv=_with_kept(lv, volumes["lv"], kept.get("ed_frame"), kept.get("es_frame")),
        rv=_with_kept(rv, volumes["rv"], kept.get("rv_ed_frame"), kept.get("rv_es_frame")),
    )


def _extremes(cine: CineStack, volumes_ml: np.ndarray) -> Extremes | None:
    if cine.is_ed_es_pair:
        if np.isnan(volumes_ml).any():
            return None  # a pair with half a beat: nothing to compare
        return Extremes(largest=0, smallest=1)
    prospective = any(flag.code == "prospective" for flag in cine.source.flags)
    return find_extremes(volumes_ml, cyclic=not prospective)


def _with_kept(
    found: Extremes | None, volumes_ml: np.ndarray, largest: int | None, smallest: int | None
) -> Extremes | None:
    """The extremes with frames fixed, where these have a volume; they are not spikes any more."""
    if found is None:
        return None
    fixed = [n for n in (largest, smallest) if n is not None and not np.isnan(volumes_ml[n])]
    return replace(
        found,
        largest=largest if largest is not None and largest in fixed else found.largest,
        smallest=smallest if smallest is not None and smallest in fixed else found.smallest,
        spikes=tuple(n for n in found.spikes if n not in fixed),
    )


def _heart_values(cine: CineStack, curves: _Curves, lv: Extremes) -> _Values:
    ed, es = lv.largest, lv.smallest
    values = _ventricle(cine, curves, "lv", lv)
    for name, value in (("ed_frame", ed), ("es_frame", es)):
        values[name] = values.pop(f"lv_{name}")
        values[f"lv_slices_{name[:2]}"] = int(np.count_nonzero(curves.areas.lv[value]))
    myocardium_ml = curves.at("myocardium", ed)
    values["lv_mass_g"] = None if np.isnan(myocardium_ml) else mass_g(myocardium_ml)
    rate, stroke = cine.source.heart_rate_bpm, values["lv_sv_ml"]
    values["lv_co_l_min"] = None if rate is None or stroke is None else stroke * rate / 1000.0
    for name, (found, sd) in filling_measures(cine, curves.volumes["lv"], lv).items():
        values |= {name: found, ERROR_OF[name]: sd}
    if curves.rv is not None and curves.is_cycle("rv", curves.rv):
        values |= _ventricle(cine, curves, "rv", curves.rv)
    return values


def _ventricle(cine: CineStack, curves: _Curves, name: str, found: Extremes) -> _Values:
    edv_ml, esv_ml = curves.at(name, found.largest), curves.at(name, found.smallest)
    return {
        f"{name}_edv_ml": edv_ml,
        f"{name}_esv_ml": esv_ml,
        f"{name}_sv_ml": edv_ml - esv_ml,
        f"{name}_ef_percent": ejection_fraction_percent(edv_ml, esv_ml),
        f"{name}_ed_frame": int(cine.frame_numbers[found.largest]),
        f"{name}_es_frame": int(cine.frame_numbers[found.smallest]),
    }


def _wall_values(
    cine: CineStack, labels: np.ndarray, lv: Extremes, base: Literal["first", "last"] | None
) -> tuple[_Values, dict[str, list[float | None]] | None]:
    """Maximal thickness and strain, and the values of the 16 segments for ``result.json``."""
    frames = labels[[lv.largest, lv.smallest]]
    wall = base and measure_wall(frames, cine.spacing_mm, cine.affine, base)
    if not wall:
        return {}, None
    values = {"lv_wall_thickness_max_mm": wall.thickness_max_mm, "lv_gcs_percent": wall.gcs_percent}
    return values, {
        name: [float(v) if np.isfinite(v) else None for v in getattr(wall, name)]
        for name in ("thickness_ed_mm", "thickening_percent", "radial_motion_mm")
    }


def _details(cine: CineStack, curves: _Curves, lv: Extremes) -> dict[str, Any]:
    """What goes into ``result.json`` besides the measures; frames in the source's numbering."""
    ed, es = lv.largest, lv.smallest
    rv_edv, rv_esv = (None if np.isnan(v) else float(v) for v in curves.volumes["rv"][[ed, es]])
    myocardium_es = curves.at("myocardium", es)
    details: dict[str, Any] = {
        "base": basal_end(curves.areas, ed, es),
        "base_at_stack_end": base_at_stack_end(curves.areas, ed, es),
        "basal_slice_sensitivity": basal_slice_sensitivity(curves.areas, ed, es),
        "lv_mass_at_es_g": None if np.isnan(myocardium_es) else mass_g(myocardium_es),
        "rv_at_lv_phases": {
            "rv_edv_ml": rv_edv,
            "rv_esv_ml": rv_esv,
            "rv_ef_percent": ejection_fraction_percent(rv_edv, rv_esv),
        },
    }
    for name, found in (("lv", lv), ("rv", curves.rv)):
        if found is not None:
            details[f"{name}_curve_roughness"] = found.roughness
            for what, frames in (("spike", found.spikes), ("missing", found.missing)):
                numbers = [int(cine.frame_numbers[i]) for i in frames]
                details[f"{name}_{what}_frames"] = numbers
    return details


def _flags(cine: CineStack, labels: np.ndarray, curves: _Curves, values: _Values) -> Iterator[Flag]:
    where = "in one or both frames of the ED/ES pair" if cine.is_ed_es_pair else "in any frame"
    for name, found, absent, no_cycle in (
        ("rv", curves.rv, "rv-missing", "rv-not-a-heart-cycle"),
        ("lv", curves.lv, "lv-missing", "not-a-heart-cycle"),
    ):
        if found is None:
            yield raised(absent, where=where)
        elif not curves.is_cycle(name, found):
            edv, esv = curves.at(name, found.largest), curves.at(name, found.smallest)
            yield raised(no_cycle, edv=edv, esv=esv)
    lv = curves.lv
    if lv is None:
        return
    if np.isnan(curves.at("myocardium", lv.largest)):
        yield raised("myocardium-missing")
    yield from missing_frame_flags(lv, curves.rv, len(labels))
    yield from extent_flags(curves.areas, lv.largest, lv.smallest)
    yield from shape_flags(labels, lv.largest, lv.smallest, cine.spacing_mm)
    yield from curve_flags(lv, [int(number) for number in cine.frame_numbers])
    if curves.is_cycle("lv", lv):
        yield from physiology_flags(values, mass_g(curves.at("myocardium", lv.smallest)))
