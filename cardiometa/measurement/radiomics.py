"""Radiomic features of myocardium and cavities at ED and ES, by the definitions of IBSI.

First-order, intensity-histogram, shape and co-occurrence features of the Image Biomarker
Standardisation Initiative (Zwanenburg 2020, Radiology 295:328; manual: arXiv 1612.07003), under the
abbreviations of its nomenclature. Shape is that of the voxels: features of a surface mesh, whose
value a stack of 10 mm slices cannot carry, are left out. Co-occurrence is counted in the plane at
a distance of one pixel, both ways in four directions, all slices in one matrix (2.5D, merged:
IBSI ZW7Z).

Before it (`SETTINGS`): intensities in percent of the mean of all labelled voxels of the phase, so
that a scanner's scale has no part in them; the plane resampled to square pixels, slices left as
they are; 32 bins between the structure's own smallest and largest intensity.

Every feature is taken three times: as the scan is, and with the plane turned, shifted and the
outline moved out or in (`VIEWS`). What changes as much by that as between hearts is no endpoint
(Zwanenburg 2019, Sci Rep 9:614); `pipeline.merge` decides it over the scans of a run.

Own code, equal to IBSI's benchmark of its digital phantom: mirp 2.7.0 (EUPL-1.2) takes 6 s instead
of 0.02 s of processor time a structure, most of it for features that cannot be left out, and needs
1.6 GB and a newer numpy, scipy and pandas than this program.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ..records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY, CineStack
from .measures import MeasureDefinition

TABLE_NAME: Final = "radiomics.csv"

# Abbreviation, IBSI code and name of each feature.
_IBSI = """
morph_vol_approx YEKZ volume of the voxels, mm3
morph_com KLMA distance of the centres of shape and of intensity, mm
morph_pca_maj_axis TDIC major axis length, mm
morph_pca_min_axis P9VJ minor axis length, mm
morph_pca_least_axis 7J51 least axis length, mm
morph_pca_elongation Q3CK elongation
morph_pca_flatness N17B flatness
stat_mean Q4LE mean intensity
stat_var ECT3 intensity variance
stat_skew KE2A intensity skewness
stat_kurt IPH6 excess intensity kurtosis
stat_median Y12H median intensity
stat_min 1GSF minimum intensity
stat_p10 QG58 10th intensity percentile
stat_p90 8DWT 90th intensity percentile
stat_max 84IY maximum intensity
stat_iqr SALO intensity interquartile range
stat_range 2OJQ intensity range
stat_mad 4FUA mean absolute deviation
stat_rmad 1128 robust mean absolute deviation
stat_medad N72L mean absolute deviation from the median
stat_cov 7TET coefficient of variation
stat_qcod 9S40 quartile coefficient of dispersion
stat_energy N8CA intensity energy
stat_rms 5ZWQ root mean square intensity
ih_mean X6K6 mean discretised intensity
ih_var CH89 discretised intensity variance
ih_skew 88K1 discretised intensity skewness
ih_kurt C3I7 excess discretised intensity kurtosis
ih_entropy TLU2 discretised intensity entropy
ih_uniformity BJ5W discretised intensity uniformity
cm_joint_max GYBY joint maximum
cm_joint_avg 60VM joint average
cm_joint_var UR99 joint variance
cm_joint_entr TU9B joint entropy
cm_diff_avg TF7R difference average
cm_diff_var D3YU difference variance
cm_diff_entr NTRS difference entropy
cm_sum_avg ZGXS sum average
cm_sum_var OEEB sum variance
cm_sum_entr P6QZ sum entropy
cm_energy 8ZQL angular second moment
cm_contrast ACUI contrast
cm_dissimilarity 8S9J dissimilarity
cm_inv_diff IB1Z inverse difference
cm_inv_diff_norm NDRX normalised inverse difference
cm_inv_diff_mom WF0Z inverse difference moment
cm_inv_diff_mom_norm 1QCO normalised inverse difference moment
cm_inv_var E8JP inverse variance
cm_corr NI2N correlation
cm_auto_corr QWB0 autocorrelation
cm_clust_tend DG8W cluster tendency
cm_clust_shade 7NFM cluster shade
cm_clust_prom AE86 cluster prominence
cm_info_corr1 R8DG first information correlation
cm_info_corr2 JN9H second information correlation
"""
FEATURES: Final = {
    name: (code, meaning)
    for name, code, meaning in (line.split(" ", 2) for line in _IBSI.strip().splitlines())
}
_STRUCTURES = {
    "lv_myocardium": LV_MYOCARDIUM,
    "lv_cavity": LV_CAVITY,
    "rv_cavity": RV_CAVITY,
}
# ``radiomics.csv``: a column of each feature of each structure and phase.
COLUMNS: Final = tuple(
    MeasureDefinition(
        f"{structure}_{phase}_{name}",
        "",
        None,
        f"{meaning}; {structure.replace('_', ' ')} at {phase.upper()}",
        f"IBSI {code}",
    )
    for structure in _STRUCTURES
    for phase in ("ed", "es")
    for name, (code, meaning) in FEATURES.items()
)
# Degrees; pixels along rows and columns; mm by which the outline moves out.
VIEWS: Final = ((0.0, 0.0, 0.0, 0.0), (5.0, 0.5, 0.25, 0.5), (-5.0, -0.25, -0.5, -0.5))
_PIXEL_MM = 1.5
_BINS = 32
_FEWEST_VOXELS = 100
_MARGIN_MM = 12.0  # around the heart, for turned planes
SETTINGS: Final[dict[str, Any]] = {
    "normalisation": "percent of the mean intensity of all labelled voxels of the phase",
    "resampling": f"in the plane to {_PIXEL_MM} mm, linear; none between slices",
    "outline": "linear interpolation of the signed distance, in the plane",
    "discretisation": f"fixed bin number, {_BINS}",
    "resegmentation": "none",
    "co-occurrence": "2.5D merged (IBSI ZW7Z), distance 1 pixel, symmetric",
    "fewest_voxels": _FEWEST_VOXELS,
    "views": [dict(zip(("turn_deg", "rows", "columns", "outline_mm"), v)) for v in VIEWS],  # noqa: B905
}


def radiomics(cine: CineStack, labels: np.ndarray, phases: tuple[int, int]) -> dict[str, Any]:
    """Each feature in each of `VIEWS` by column of `COLUMNS`, of labels ``[t, z, y, x]``.

    ``phases``: indices of ED and ES. A structure of fewer than 100 voxels has none,
    nor has a picture whose labelled intensities are not above 0 on average.
    """
    found: dict[str, list[float]] = {}
    voxel_mm = float(cine.slice_distance_mm), _PIXEL_MM, _PIXEL_MM
    for phase, frame in zip(("ed", "es"), phases, strict=True):
        own = labels[frame]
        if not own.any():
            continue
        spare = [int(np.ceil(_MARGIN_MM / mm)) for mm in cine.spacing_mm]
        box: list[slice] = [slice(None)]
        for axis, more in zip((1, 2), spare, strict=True):
            used = np.flatnonzero(own.any(axis=tuple({0, 1, 2} - {axis})))
            box.append(slice(max(used[0] - more, 0), used[-1] + more + 1))
        image, own = cine.pixels[frame][tuple(box)].astype(np.float64), own[tuple(box)]
        level = image[own > 0].mean()
        if not level > 0:
            continue  # no picture, or one without a scale of its own
        image *= 100.0 / level
        for structure, label in _STRUCTURES.items():
            rows = [
                features(*resampled(image, own == label, cine.spacing_mm, view), voxel_mm)
                for view in VIEWS
            ]
            if all(rows):
                for name in FEATURES:
                    found[f"{structure}_{phase}_{name}"] = [row[name] for row in rows]
    return found


def resampled(
    image: np.ndarray,
    mask: np.ndarray,
    spacing_mm: tuple[float, float],
    view: tuple[float, float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask ``[z, y, x]`` on square pixels, in one of `VIEWS`; slices without mask go."""
    from scipy.ndimage import affine_transform, distance_transform_edt

    turn, rows, columns, outwards_mm = view
    kept = mask.any(axis=(1, 2))
    image, mask = image[kept], mask[kept]
    size = np.ceil(np.array(mask.shape[1:]) * spacing_mm / _PIXEL_MM).astype(int)
    angle = np.deg2rad(turn)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turned * _PIXEL_MM / np.array(spacing_mm)[:, np.newaxis]
    middle = (np.array(mask.shape[1:]) - 1) / 2
    offset = middle - matrix @ ((size - 1) / 2 + np.array([rows, columns]))

    def drawn(stack: np.ndarray) -> np.ndarray:
        planes = [
            affine_transform(
                plane, matrix, offset, output_shape=tuple(size), order=1, mode="nearest"
            )
            for plane in stack
        ]
        return np.array(planes).reshape(-1, *size)

    # Half the distance between the centres of the pixels on either side of the outline.
    signed = [
        distance_transform_edt(plane, spacing_mm) - distance_transform_edt(~plane, spacing_mm)
        for plane in mask
    ]
    return drawn(image), drawn(np.array(signed)) > -2 * outwards_mm


def features(
    image: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    """All `FEATURES` of the voxels of a mask ``[z, y, x]``; empty where they are too few or equal.

    ``spacing_mm`` between slices, rows and columns.
    """
    values = image[mask]
    if len(values) < _FEWEST_VOXELS or np.ptp(values) == 0:
        return {}
    binned = np.minimum(np.floor(_BINS * (image - values.min()) / np.ptp(values)), _BINS - 1)
    return features_of(image, mask, spacing_mm, binned.astype(np.int64) + 1)


def features_of(
    image: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float], binned: np.ndarray
) -> dict[str, float]:
    """All `FEATURES` with the discretised intensities given, from 1; see `features`."""
    values = image[mask]
    found = _shape(values, mask, spacing_mm) | _first_order(values)
    levels = binned[mask]
    share = np.bincount(levels)[1:] / len(levels)
    moments = zip(("mean", "var", "skew", "kurt"), _moments(levels), strict=True)
    found |= {f"ih_{name}": value for name, value in moments}
    found |= {"ih_entropy": _entropy(share), "ih_uniformity": float((share**2).sum())}
    return found | _co_occurrence(binned, mask, int(levels.max()))


def _shape(
    values: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    places = np.argwhere(mask) * np.array(spacing_mm)
    middle = places.mean(axis=0)
    total = float(values.sum())
    weighted = values @ places / (total or math.nan)
    axes = np.sqrt(np.linalg.eigvalsh(np.cov(places.T)).clip(0))[::-1]
    return {
        "morph_vol_approx": len(values) * float(np.prod(spacing_mm)),
        "morph_com": float(np.linalg.norm(weighted - middle)),
        **{
            f"morph_pca_{name}_axis": float(4 * length)
            for name, length in zip(("maj", "min", "least"), axes, strict=True)
        },
        "morph_pca_elongation": float(axes[1] / axes[0]),
        "morph_pca_flatness": float(axes[2] / axes[0]),
    }


def _moments(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, variance, skewness and excess kurtosis, all with 1 / n."""
    away = values - values.mean()
    variance = float((away**2).mean())
    return (
        float(values.mean()),
        variance,
        float((away**3).mean() / variance**1.5),
        float((away**4).mean() / variance**2 - 3),
    )


def _entropy(share: np.ndarray) -> float:
    known = share[share > 0]
    return float(-(known * np.log2(known)).sum())


def _ratio(over: float, under: float) -> float:
    """NaN where the denominator is 0, as of a structure that is mostly black."""
    return over / under if under else math.nan


def _first_order(values: np.ndarray) -> dict[str, float]:
    mean, variance, skewness, kurtosis = _moments(values)
    p10, p25, median, p75, p90 = (float(p) for p in np.percentile(values, (10, 25, 50, 75, 90)))
    inner = values[(values >= p10) & (values <= p90)]
    energy = float((values.astype(np.float64) ** 2).sum())
    return {
        "stat_mean": mean,
        "stat_var": variance,
        "stat_skew": skewness,
        "stat_kurt": kurtosis,
        "stat_median": median,
        "stat_min": float(values.min()),
        "stat_p10": p10,
        "stat_p90": p90,
        "stat_max": float(values.max()),
        "stat_iqr": p75 - p25,
        "stat_range": float(np.ptp(values)),
        "stat_mad": float(abs(values - mean).mean()),
        "stat_rmad": float(abs(inner - inner.mean()).mean()),
        "stat_medad": float(abs(values - median).mean()),
        "stat_cov": _ratio(float(np.sqrt(variance)), mean),
        "stat_qcod": _ratio(p75 - p25, p75 + p25),
        "stat_energy": energy,
        "stat_rms": float(np.sqrt(energy / len(values))),
    }


def _co_occurrence(binned: np.ndarray, mask: np.ndarray, bins: int) -> dict[str, float]:
    counts = np.zeros((bins + 1) ** 2)
    level = np.where(mask, binned, 0)
    for y, x in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows = level.shape[1] - y
        one = level[:, :rows, max(-x, 0) : level.shape[2] - max(x, 0)]
        other = level[:, y:, max(x, 0) : level.shape[2] + min(x, 0)]
        both = (one > 0) & (other > 0)
        pairs = one[both] * (bins + 1) + other[both]
        counts += np.bincount(pairs, minlength=len(counts))
    if not counts.any():  # no two pixels side by side
        return {name: math.nan for name in FEATURES if name.startswith("cm_")}
    matrix = counts.reshape(bins + 1, bins + 1)[1:, 1:]
    p = (matrix + matrix.T) / (2 * matrix.sum())
    i, j = np.mgrid[1 : bins + 1, 1 : bins + 1]
    apart, together = abs(i - j), i + j
    by_difference = np.bincount(apart.ravel(), weights=p.ravel())
    by_sum = np.bincount(together.ravel(), weights=p.ravel())
    single = p.sum(axis=1)
    mean = float((i * p).sum())
    variance = float(((i - mean) ** 2 * p).sum())
    entropy = _entropy(p)
    independent = single[:, np.newaxis] * single
    seen = independent > 0
    crossed = float(-(p[seen] * np.log2(independent[seen])).sum())
    product = _entropy(independent)
    difference, total = float((apart * p).sum()), float((together * p).sum())
    cluster = together - 2 * mean
    off = apart > 0
    return {
        "cm_joint_max": float(p.max()),
        "cm_joint_avg": mean,
        "cm_joint_var": variance,
        "cm_joint_entr": entropy,
        "cm_diff_avg": difference,
        "cm_diff_var": float(((apart - difference) ** 2 * p).sum()),
        "cm_diff_entr": _entropy(by_difference),
        "cm_sum_avg": total,
        "cm_sum_var": float(((together - total) ** 2 * p).sum()),
        "cm_sum_entr": _entropy(by_sum),
        "cm_energy": float((p**2).sum()),
        "cm_contrast": float((apart**2 * p).sum()),
        "cm_dissimilarity": difference,
        "cm_inv_diff": float((p / (1 + apart)).sum()),
        "cm_inv_diff_norm": float((p / (1 + apart / bins)).sum()),
        "cm_inv_diff_mom": float((p / (1 + apart**2)).sum()),
        "cm_inv_diff_mom_norm": float((p / (1 + (apart / bins) ** 2)).sum()),
        "cm_inv_var": float((p[off] / apart[off] ** 2).sum()),
        "cm_corr": _ratio(float(((i - mean) * (j - mean) * p).sum()), variance),
        "cm_auto_corr": float((i * j * p).sum()),
        "cm_clust_tend": float((cluster**2 * p).sum()),
        "cm_clust_shade": float((cluster**3 * p).sum()),
        "cm_clust_prom": float((cluster**4 * p).sum()),
        "cm_info_corr1": _ratio(entropy - crossed, _entropy(single)),
        "cm_info_corr2": float(np.sqrt(max(1 - np.exp2(2 * (entropy - product)), 0))),
    }
