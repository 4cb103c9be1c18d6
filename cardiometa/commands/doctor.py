"""What this machine has: torch build, device, decoders, memory, and what to do about each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from ..errors import ModelError
from ..manifest import version
from ..segmentation.model import load_model, tensors_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked; ``advice`` is empty where all is well."""

    what: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Everything that was checked, in order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [
        Finding("cardiometa", version()),
        Finding("Python", sys.version.partition(" ")[0]),
        Finding("cores", str(cores)),
    ]
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        advice = "" if available >= 2 else "Free some, or run with --workers 1."
        found.append(Finding("free memory", f"{available:.1f} GiB", advice))
    except (ValueError, OSError, AttributeError):
        found.append(Finding("memory", "unknown"))
    try:
        import torch
    except (ImportError, OSError) as error:
        absent = isinstance(error, ModuleNotFoundError)
        state = "not installed" if absent else f"cannot be imported ({type(error).__name__})"
        advice = "pip install torch: `segment`, `demo` and `model train` need it, others not."
        found.append(Finding("torch", state, advice))
    else:
        device, advice = "cpu", ""
        if torch.cuda.is_available():
            device = f"cuda ({torch.cuda.device_count()})"
        elif torch.backends.mps.is_available():
            device = "mps"
        elif torch.version.cuda is not None:
            advice = "This build of torch supports CUDA but finds no GPU: check the driver."
        found += [Finding("torch", str(torch.__version__)), Finding("device", device, advice)]
    for uid in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless):
        name = f"decoder {uid.name.partition(',')[0]}"
        present = get_decoder(uid).is_available
        found.append(
            Finding(name, "present") if present else Finding(name, "absent", "Install python-gdcm.")
        )
    try:
        model = load_model()
        tensors_of(model)
        found.append(Finding("bundled model", f"{model.card.model_id}, {model.sha256[:12]}"))
    except ModelError as error:
        found.append(Finding("bundled model", error.message, "Reinstall cardiometa."))
    try:
        import pyarrow as pa

        found.append(Finding("Parquet", f"pyarrow {pa.__version__}"))
    except ImportError:
        advice = "pip install 'cardiometa[tables]' to read it."
        found.append(Finding("Parquet", "absent", advice))
    return found
