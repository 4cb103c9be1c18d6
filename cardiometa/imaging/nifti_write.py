"""The one writer of NIfTI files: masks, images of reading packages, phantoms, corrections."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np


def nifti_bytes(
    values: np.ndarray,
    affine: np.ndarray,
    *,
    frame_ms: float | None = None,
    description: str = "",
    header: Any = None,
) -> bytes:
    """``.nii.gz`` of a volume ``[z, y, x]`` or cine ``[t, z, y, x]``, stored as (x, y, z[, t]).

    ``affine`` 4×4 from voxel (x, y, z) to RAS mm; ``frame_ms`` the time step of a cine. With the
    nibabel ``header`` of another file, its units and time step are kept instead. The same values
    give the same bytes.
    """
    from nibabel.nifti1 import Nifti1Image

    # nibabel's headers carry no types.
    image: Any = Nifti1Image(values.T, affine, header)  # type: ignore[no-untyped-call]
    if header is None:
        image.header["descrip"] = description.encode()
        image.header.set_xyzt_units("mm", None if frame_ms is None else "msec")
        if frame_ms is not None:
            image.header.set_zooms([*image.header.get_zooms()[:3], frame_ms])
    buffer = io.BytesIO()
    # Level 1 costs a tenth of a second where level 9 costs 15; no time stamp, equal bytes.
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(image.to_bytes())
    return buffer.getvalue()
