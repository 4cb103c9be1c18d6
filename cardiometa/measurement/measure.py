"""One labelled cine into its measures, curves, flags and details."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..records import BodySize, CineStack, Flag, LabelStack, Measure, Measurement, ScanQuality
from .checks import curve_flags, extent_flags, missing_frame_flags, physiology_flags, shape_flags
from .indexing import body_surface_area_m2, indexed
from .measures import SCAN_COLUMNS
from .phases import Extremes, find_extremes
from .quality import merge_flags, predicted_dice_flags, raised, status_of
from .volumes import (
    Areas,
    basal_end,
    basal_slice_sensitivity,
    ejection_fraction_percent,
    mass_g,
    structure_areas,
)

_INDEX_OF: Mapping[str, str] = {
    "lv_edvi_ml_m2": "lv_edv_ml",
    "lv_esvi_ml_m2": "lv_esv_ml",
    "lv_svi_ml_m2": "lv_sv_ml",
    "lv_massi_g_m2": "lv_mass_g",
    "rv_edvi_ml_m2": "rv_edv_ml",
    "rv_esvi_ml_m2": "rv_esv_ml",
    "rv_svi_ml_m2": "rv_sv_ml",
}
# What the labels say; a rejected scan has none of it in its row.
_FROM_LABELS = (
    *_INDEX_OF,
    *("lv_edv_ml", "lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "lv_mass_g", "lv_co_l_min"),
    *("rv_edv_ml", "rv_esv_ml", "rv_sv_ml", "rv_ef_percent"),
    *("ed_frame", "es_frame", "rv_ed_frame", "rv_es_frame", "lv_slices_ed", "lv_slices_es"),
)

_Values = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curves:
    """Areas and volume curves ``[t]`` (NaN: the structure is not in the frame), and extremes."""

    areas: Areas
    lv_ml: np.ndarray
    myocardium_ml: np.ndarray
    rv_ml: np.ndarray
    lv: Extremes | None
    rv: Extremes | None


def measure_scan(
    cine: CineStack,
    labels: LabelStack,
    body: BodySize,
    bsa_formula: str,
    kept: Mapping[str, int] | None = None,
) -> Measurement:
    """Measure one labelled cine.

    The measures are those of `SCAN_COLUMNS`, in that order, with None for what cannot be given;
    frames among them are in the source's numbering, while ``Measurement.ed_frame`` and
    ``es_frame`` are indices into ``labels`` (0 where no LV was found). Flags of the images, of the
    labels and of the measures come merged; with one that rejects, the measures made from labels
    are None and stand in ``details["rejected_measures"]``. ``quality`` is the Dice that the model's
    calibration predicts of the labels; labels without it have none.

    An ED/ES pair, given or taken out of a cine, is taken in its order, never swapped, and the RV
    is measured at the same two phases. Otherwise each ventricle's ED and ES are
    the extremes of its own curve; ``details["rv_at_lv_phases"]`` has the RV at the LV's. ``kept``
    names frames that a reader's masks hold in place whatever the curve says: ``ed_frame``,
    ``es_frame``, ``rv_ed_frame``, ``rv_es_frame`` to indices into ``labels``.

    Raises ValueError where labels and images do not fit together, InputError for a body size that
    no human has, UsageError for an unknown formula.
    """
    if labels.labels.shape != cine.pixels.shape:
        raise ValueError(f"labels {labels.labels.shape} do not fit images {cine.pixels.shape}")
    curves = _with_kept(_curves(cine, labels.labels), kept or {})
    values = _image_values(cine)
    values["quality"] = None if labels.quality is None else labels.quality.predicted_dice
    bsa_m2 = values["bsa_m2"] = body_surface_area_m2(body.height_cm, body.weight_kg, bsa_formula)
    details: dict[str, Any] = {}
    if curves.lv is not None:
        values |= _heart_values(cine, curves, curves.lv)
        values |= {name: indexed(values.get(of), bsa_m2) for name, of in _INDEX_OF.items()}
        details = _details(cine, curves, curves.lv)
    details |= _quality_details(cine, labels.quality)
    found = tuple(_flags(cine, labels.labels, curves, values))
    doubts = predicted_dice_flags(values["quality"])
    flags = merge_flags(cine.source.flags, labels.flags, found, doubts)
    if status_of(flags) == "failed":
        details["rejected_measures"] = {
            name: values[name] for name in _FROM_LABELS if values.get(name) is not None
        }
        values = {name: value for name, value in values.items() if name not in _FROM_LABELS}
    return Measurement(
        measures=tuple(
            Measure(name=column.name, value=values.get(column.name), unit=column.unit)
            for column in SCAN_COLUMNS
        ),
        curves={
            "lv_ml": curves.lv_ml,
            "myocardium_ml": curves.myocardium_ml,
            "rv_ml": curves.rv_ml,
        },
        ed_frame=curves.lv.largest if curves.lv else 0,
        es_frame=curves.lv.smallest if curves.lv else 0,
        flags=flags,
        details=details,
    )


def _curves(cine: CineStack, labels: np.ndarray) -> _Curves:
    areas = structure_areas(labels, cine.spacing_mm, cine.slice_weights_mm)
    lv, myocardium, rv = (
        np.where(curve > 0, curve, np.nan)
        for curve in (areas.volume_ml("lv"), areas.volume_ml("myocardium"), areas.volume_ml("rv"))
    )
    return _Curves(
        areas=areas,
        lv_ml=lv,
        myocardium_ml=myocardium,
        rv_ml=rv,
        lv=_extremes(cine, lv),
        rv=_extremes(cine, rv),
    )


def lv_extremes(cine: CineStack, labels: np.ndarray) -> Extremes | None:
    """ED and ES of labels ``[t, z, y, x]`` by the LV's curve; None where no frame has an LV."""
    return _curves(cine, labels).lv


def _with_kept(curves: _Curves, kept: Mapping[str, int]) -> _Curves:
    lv = _kept(curves.lv, curves.lv_ml, kept.get("ed_frame"), kept.get("es_frame"))
    rv = _kept(curves.rv, curves.rv_ml, kept.get("rv_ed_frame"), kept.get("rv_es_frame"))
    return replace(curves, lv=lv, rv=rv)


def _kept(
    found: Extremes | None, volumes_ml: np.ndarray, largest: int | None, smallest: int | None
) -> Extremes | None:
    """The extremes with frames held in place, where these have a volume; no spikes any more."""
    if found is None:
        return None
    held = [n for n in (largest, smallest) if n is not None and not np.isnan(volumes_ml[n])]
    return replace(
        found,
        largest=largest if largest is not None and largest in held else found.largest,
        smallest=smallest if smallest is not None and smallest in held else found.smallest,
        spikes=tuple(n for n in found.spikes if n not in held),
    )


def _extremes(cine: CineStack, volumes_ml: np.ndarray) -> Extremes | None:
    if cine.is_ed_es_pair:
        if np.isnan(volumes_ml).any():
            return None  # a pair with half a beat: nothing to compare
        return Extremes(largest=0, smallest=1)
    prospective = any(flag.code == "prospective" for flag in cine.source.flags)
    return find_extremes(volumes_ml, cyclic=not prospective)


def _image_values(cine: CineStack) -> _Values:
    """What is known without labels: geometry, time and heart rate."""
    source = cine.source
    return {
        "heart_rate_bpm": source.heart_rate_bpm,
        "frames": cine.phases_of_source or cine.pixels.shape[0],
        "frame_ms": source.frame_ms,
        "slices": cine.pixels.shape[1],
        "spacing_mm": float(np.sqrt(cine.spacing_mm[0] * cine.spacing_mm[1])),
        "slice_distance_mm": float(cine.slice_distance_mm),
        "thickness_mm": source.thickness_mm,
    }


def _heart_values(cine: CineStack, curves: _Curves, lv: Extremes) -> _Values:
    ed, es = lv.largest, lv.smallest
    values = _ventricle("lv", float(curves.lv_ml[ed]), float(curves.lv_ml[es]))
    myocardium_ml = float(curves.myocardium_ml[ed])
    values["lv_mass_g"] = None if np.isnan(myocardium_ml) else mass_g(myocardium_ml)
    rate = cine.source.heart_rate_bpm
    stroke = values["lv_sv_ml"]
    values["lv_co_l_min"] = None if rate is None or stroke is None else stroke * rate / 1000.0
    values["ed_frame"] = int(cine.frame_numbers[ed])
    values["es_frame"] = int(cine.frame_numbers[es])
    values["lv_slices_ed"] = int(np.count_nonzero(curves.areas.lv[ed]))
    values["lv_slices_es"] = int(np.count_nonzero(curves.areas.lv[es]))
    rv = curves.rv
    if rv is not None and _is_cycle(curves.rv_ml, rv):
        values |= _ventricle(
            "rv", float(curves.rv_ml[rv.largest]), float(curves.rv_ml[rv.smallest])
        )
        values["rv_ed_frame"] = int(cine.frame_numbers[rv.largest])
        values["rv_es_frame"] = int(cine.frame_numbers[rv.smallest])
    return values


def _ventricle(name: str, edv_ml: float, esv_ml: float) -> _Values:
    return {
        f"{name}_edv_ml": edv_ml,
        f"{name}_esv_ml": esv_ml,
        f"{name}_sv_ml": edv_ml - esv_ml,
        f"{name}_ef_percent": ejection_fraction_percent(edv_ml, esv_ml),
    }


def _is_cycle(curve_ml: np.ndarray, extremes: Extremes) -> bool:
    return bool(curve_ml[extremes.smallest] < curve_ml[extremes.largest])


def _details(cine: CineStack, curves: _Curves, lv: Extremes) -> dict[str, Any]:
    """What goes into ``result.json`` beside the measures; frames in the source's numbering."""
    ed, es = lv.largest, lv.smallest
    rv_edv, rv_esv = (None if np.isnan(v) else float(v) for v in curves.rv_ml[[ed, es]])
    myocardium_es = float(curves.myocardium_ml[es])
    return {
        "base": basal_end(curves.areas, ed, es),
        "basal_slice_sensitivity": basal_slice_sensitivity(curves.areas, ed, es),
        "lv_mass_at_es_g": None if np.isnan(myocardium_es) else mass_g(myocardium_es),
        "rv_at_lv_phases": {
            "rv_edv_ml": rv_edv,
            "rv_esv_ml": rv_esv,
            "rv_ef_percent": ejection_fraction_percent(rv_edv, rv_esv),
        },
        **_curve_details(cine, "lv", lv),
        **(_curve_details(cine, "rv", curves.rv) if curves.rv else {}),
    }


def _quality_details(cine: CineStack, quality: ScanQuality | None) -> dict[str, Any]:
    """The features behind ``quality`` and the frames they are of, in the source's numbering."""
    if quality is None:
        return {}
    return {
        "quality_features": dict(quality.features),
        "quality_frames": [int(cine.frame_numbers[frame]) for frame in quality.frames],
    }


def _curve_details(cine: CineStack, name: str, extremes: Extremes) -> dict[str, Any]:
    return {
        f"{name}_curve_roughness": extremes.roughness,
        f"{name}_spike_frames": [int(cine.frame_numbers[i]) for i in extremes.spikes],
        f"{name}_missing_frames": [int(cine.frame_numbers[i]) for i in extremes.missing],
    }


def _flags(cine: CineStack, labels: np.ndarray, curves: _Curves, values: _Values) -> Iterator[Flag]:
    where = "in one or both frames of the ED/ES pair" if cine.is_ed_es_pair else "in any frame"
    if curves.rv is None:
        yield raised("rv-missing", where=where)
    elif not _is_cycle(curves.rv_ml, curves.rv):
        yield _no_cycle("rv-not-a-heart-cycle", curves.rv_ml, curves.rv)
    lv = curves.lv
    if lv is None:
        yield raised("lv-missing", where=where)
        return
    if not _is_cycle(curves.lv_ml, lv):
        yield _no_cycle("not-a-heart-cycle", curves.lv_ml, lv)
    if np.isnan(curves.myocardium_ml[lv.largest]):
        yield raised("myocardium-missing")
    yield from missing_frame_flags(lv, curves.rv, len(labels))
    yield from extent_flags(curves.areas, lv.largest, lv.smallest)
    yield from shape_flags(labels, lv.largest, lv.smallest, cine.spacing_mm)
    yield from curve_flags(lv, [int(number) for number in cine.frame_numbers])
    if _is_cycle(curves.lv_ml, lv):
        yield from physiology_flags(values, mass_g(float(curves.myocardium_ml[lv.smallest])))


def _no_cycle(code: str, curve_ml: np.ndarray, extremes: Extremes) -> Flag:
    return raised(
        code, edv=float(curve_ml[extremes.largest]), esv=float(curve_ml[extremes.smallest])
    )
