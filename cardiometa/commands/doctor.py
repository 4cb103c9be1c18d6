"""What this machine has: torch build, device, decoders, memory, and what to do about each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at; ``advice`` is empty where all is well."""

    what: str
    found: str
    advice: str = ""


def _torch() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [
            Finding(
                what="torch",
                found=f"cannot be imported ({type(error).__name__})",
                advice="Install torch; `segment` needs it, the statistics commands do not.",
            )
        ]
    found = [Finding(what="torch", found=str(torch.__version__))]
    if torch.cuda.is_available():
        found.append(Finding(what="device", found=f"cuda ({torch.cuda.device_count()})"))
    elif torch.backends.mps.is_available():
        found.append(Finding(what="device", found="mps"))
    else:
        advice = ""
        if torch.version.cuda is not None:
            advice = "This build of torch knows CUDA but sees no GPU: look at the driver."
        found.append(Finding(what="device", found="cpu", advice=advice))
    return found


def _decoders() -> list[Finding]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import (
        JPEG2000Lossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    )

    found = []
    for uid in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless):
        available = get_decoder(uid).is_available
        found.append(
            Finding(
                what=f"decoder {uid.name.partition(',')[0]}",
                found="present" if available else "absent",
                advice="" if available else "Install python-gdcm.",
            )
        )
    return found


def _memory() -> Finding:
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError, AttributeError):
        return Finding(what="memory", found="unknown")
    advice = "" if available >= 2 else "Free some, or run with --workers 1."
    return Finding(what="free memory", found=f"{available:.1f} GiB", advice=advice)


def _model() -> Finding:
    from ..errors import ModelError
    from ..segmentation.model import load_model, tensors_of

    try:
        model = load_model()
        tensors_of(model)
    except ModelError as error:
        return Finding(what="bundled model", found=error.message, advice="Install again.")
    return Finding(what="bundled model", found=f"{model.card.model_id}, {model.sha256[:12]}")


def _tables() -> Finding:
    try:
        import pyarrow as pa
    except ImportError:
        return Finding(
            what="Parquet", found="absent", advice="pip install 'cardiometa[tables]' to read it."
        )
    return Finding(what="Parquet", found=f"pyarrow {pa.__version__}")


def examine() -> list[Finding]:
    """Everything looked at, in order."""
    from ..manifest import version

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        Finding(what="cardiometa", found=version()),
        Finding(what="Python", found=sys.version.partition(" ")[0]),
        Finding(what="cores", found=str(cores)),
        _memory(),
        *_torch(),
        *_decoders(),
        _model(),
        _tables(),
    ]
