"""Phantom cines as NIfTI: 4-D, one volume a frame, or an ED and ES pair.

nibabel is imported when called; the bytes depend on the cine alone (no time stamps).
"""

from __future__ import annotations

import gzip
from importlib import import_module
from typing import Any

import numpy as np

from .phantom import PhantomCine


def _file(cine: PhantomCine, values: np.ndarray, frame_ms: float = 0.0) -> bytes:
    # values: [z, y, x] or [t, z, y, x]; NIfTI stores x fastest.
    nibabel: Any = import_module("nibabel")

    image = nibabel.Nifti1Image(np.ascontiguousarray(values.T), cine.grid.affine_ras)
    image.set_sform(cine.grid.affine_ras, code=1)
    image.set_qform(cine.grid.affine_ras, code=1)
    image.header.set_xyzt_units("mm", "msec")
    if values.ndim == 4:
        image.header["pixdim"][4] = frame_ms
    image.header["descrip"] = b"synthetic phantom"
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _frame_ms(cine: PhantomCine) -> float:
    return cine.phantom.rr_ms / cine.grid.frames


def nifti_4d(cine: PhantomCine, name: str = "cine") -> dict[str, bytes]:
    """``name.nii.gz``: x, y, z, t with the frame's length in ms."""
    return {f"{name}.nii.gz": _file(cine, cine.pixels.astype(np.int16), _frame_ms(cine))}


def nifti_frames(cine: PhantomCine, name: str = "cine") -> dict[str, bytes]:
    """``name_frame01.nii.gz`` …: one 3-D volume a phase."""
    return {
        f"{name}_frame{t + 1:02d}.nii.gz": _file(cine, volume.astype(np.int16))
        for t, volume in enumerate(cine.pixels)
    }


def nifti_ed_es(
    cine: PhantomCine, name: str = "phantom", *, labels: bool = False
) -> dict[str, bytes]:
    """``name_ED.nii.gz`` and ``name_ES.nii.gz``, with ``labels`` also ``…_gt.nii.gz``."""
    files = {}
    for phase, t in (("ED", cine.truth.ed_frame), ("ES", cine.truth.es_frame)):
        files[f"{name}_{phase}.nii.gz"] = _file(cine, cine.pixels[t].astype(np.int16))
        if labels:
            files[f"{name}_{phase}_gt.nii.gz"] = _file(cine, cine.labels[t])
    return files
