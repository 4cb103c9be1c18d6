"""Why a file or an image was not used: one code and one sentence for each reason.

Reasons are counted, never listed by file: a file's name may be a person's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..records import LeftOut

# Files without an image, by their bytes.
FILE_REASONS = {
    "empty-file": "files of zero bytes",
    "text-file": "text files, whatever they are called",
    "pointer-file": "pointers to content that was never fetched (git-lfs or git-annex)",
    "picture-file": "pictures such as JPEG or PNG, which carry no geometry",
    "other-file": "files of a kind that is not read here",
    "nifti-beside-dicom": "NIfTI files next to DICOM images, which are read instead",
    "archive-beside-images": "archives next to images, which are read instead",
    "nested-archive": "archives inside an archive, which are not opened",
    "unsafe-name": "archive members whose name points outside the archive",
    "encrypted": "archive members that need a password",
    "oversized": "files that claim a size beyond any cardiac cine",
    "damaged": "files that are damaged or cut off",
    "unreadable": "files or folders that this user may not read, or that are not plain files",
    "mask-file": "segmentations (`_gt`), which are not images",
    "other-nifti": "further NIfTI files next to the one that is read",
    "long-axis-nifti": "NIfTI files of fewer than 4 slices, such as long-axis views",
    "not-an-image": "DICOM objects without pixels (DICOMDIR, reports)",
}

# DICOM images that cannot be a short-axis cine, whatever their place.
IMAGE_REASONS = {
    "not-mr": "images of another modality than MR",
    "not-grey": "colour images",
    "no-orientation": "images without an orientation in the patient",
    "no-position": "images without a position in the patient",
    "no-frame-group": "frames of multi-frame images whose file does not say where they lie",
    "multi-frame": "multi-frame images without a place for each frame",
    "no-pixel-spacing": "images without a pixel spacing, so nothing can be measured",
    "pixel-spacing": "images whose pixel spacing is impossible for a cardiac image",
    "screenshot": "secondary captures and screenshots",
    "burned-in": "images with writing burned into the pixels",
    "flow": "flow images (phase contrast)",
    "not-magnitude": "real, imaginary or phase images",
    "tagging": "tagged images",
    "perfusion": "perfusion images",
    "late-enhancement": "late enhancement images",
    "map": "parametric maps or the images they are fitted to",
    "reformat": "reformats and projections computed from other images",
    "duplicate-file": "exact copies of images that are used",
    "undecodable": "images whose pixels could not be decoded",
    "regex": "images whose series description does not match --series-regex",
}

# Images at places or times that are not those of the cine that was chosen.
STACK_REASONS = {
    "too-few-phases": "images of places with fewer than 8 phases",
    "too-few-positions": "images of cine at fewer than 4 parallel places, such as long-axis views",
    "axial": "images of axial stacks",
    "coronal": "images of coronal stacks",
    "sagittal": "images of sagittal stacks",
    "real-time": "images of real-time cine that runs over several beats",
    "time-span": "images of dynamic series that last longer than a beat, such as perfusion",
    "thin-volume": "images of 3-D volumes of thin slices",
    "ambiguous-phases": "images whose order in time is ambiguous",
    "other-state": "images of these slices in another state, such as stress",
    "repeated-slices": "images of slices acquired again; the complete and latest ones are used",
    "other-stack": "images of stacks that are not the one chosen",
}

REASONS: Mapping[str, str] = {**FILE_REASONS, **IMAGE_REASONS, **STACK_REASONS}


def left_out(counts: Mapping[str, int]) -> tuple[LeftOut, ...]:
    """Counts by code as records, the most frequent first."""
    order = sorted(((-n, code) for code, n in counts.items() if n > 0))
    return tuple(
        LeftOut(code=code, count=-n, sentence=f"{REASONS[code]} ({-n})") for n, code in order
    )


def summary(counts: Mapping[str, int]) -> str:
    """All reasons in one line: ``images of axial stacks (240); files of zero bytes (1)``."""
    return "; ".join(item.sentence for item in left_out(counts))


def hint_for(code: str, default: str) -> str:
    """What to do about a source whose one reason is ``code``."""
    return {
        "damaged": "Fetch or export the files again.",
        "empty-file": "Fetch or export the files again.",
        "pointer-file": "Fetch the content first: git lfs pull, or git annex get.",
        "nested-archive": "Unpack the outer archive, or give each inner one as a scan.",
        "encrypted": "Unpack the archive with its password and give the folder.",
        "unreadable": "Ask for the right to read the files.",
        "not-mr": "Only MR can be measured here; give the MR examination of this visit.",
        "no-pixel-spacing": "Export again with PixelSpacing: there are no volumes without it.",
        "no-orientation": "Export again with ImageOrientationPatient kept.",
        "no-position": "Export again with ImagePositionPatient kept.",
        "regex": "Check the series' descriptions and change --series-regex.",
    }.get(code, default)


def main_reason(counts: Mapping[str, int], default: str) -> str:
    """The code that a refusal carries: the one image reason if all images share it."""
    images = Counter({code: n for code, n in counts.items() if code not in FILE_REASONS and n > 0})
    if len(images) == 1:
        return next(iter(images))
    files = [code for code, n in counts.items() if code in FILE_REASONS and n > 0]
    if not images and len(files) == 1:
        return files[0]
    return default
