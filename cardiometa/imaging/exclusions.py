"""Why a file or an image was not used: one line of a table for each reason.

Reasons are counted, never listed by file: a file's name may be a person's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..records import LeftOut


class Reason(NamedTuple):
    """What was left out, and what to do where nothing else was found; empty for the usual hint."""

    what: str
    fix: str = ""


_AGAIN = "Fetch or export the files again."
_ORIGINALS = "Export the original images (ImageType ORIGINAL, PRIMARY) from the scanner or archive."
_IMAGES = "Export the images of the examination too."
_CONVERT = (
    "Convert it to NIfTI: with SimpleITK, WriteImage(ReadImage('{0}'), 'x.nii.gz'), or save it as "
    "NIfTI in 3D Slicer. A cine must become one 4-D file (columns, rows, slices, phases)."
)

# Files without an image, by their bytes.
FILE_REASONS = {
    "empty-file": Reason("files of zero bytes", _AGAIN),
    "text-file": Reason("text files, whatever they are called"),
    "pointer-file": Reason(
        "pointers to content that was never fetched (git-lfs or git-annex)",
        "Fetch the content first: git lfs pull, or git annex get.",
    ),
    "picture-file": Reason(
        "pictures such as JPEG or PNG, which carry no geometry",
        "Export DICOM: a picture has no pixel spacing, so nothing can be measured.",
    ),
    "metaimage-file": Reason(
        "MetaImage files (.mha, .mhd), which are not read here", _CONVERT.format("x.mha")
    ),
    "nrrd-file": Reason(
        "NRRD files (.nrrd, .nhdr), which are not read here", _CONVERT.format("x.nrrd")
    ),
    "analyze-file": Reason(
        "Analyze or two-file NIfTI images (.hdr with .img), which are not read here",
        "Convert it to one-file NIfTI: with nibabel, save(load('x.hdr'), 'x.nii.gz'). Analyze "
        "headers have no orientation, so check the result.",
    ),
    "pdf-file": Reason("PDF documents", _IMAGES),
    "office-file": Reason("Office documents and thumbnails (Thumbs.db)"),
    "video-file": Reason(
        "video files such as MP4 or AVI, which carry no geometry",
        "Export DICOM: a video has no pixel spacing, so nothing can be measured.",
    ),
    "other-file": Reason("files of a kind that is not read here"),
    "nifti-beside-dicom": Reason("NIfTI files next to DICOM images, which are read instead"),
    "archive-beside-images": Reason("archives next to images, which are read instead"),
    "nested-archive": Reason(
        "archives inside an archive, which are not opened",
        "Unpack the outer archive, or give each inner one as a scan.",
    ),
    "unsafe-name": Reason("archive members whose name points outside the archive"),
    "encrypted": Reason(
        "archive members that need a password",
        "Unpack the archive with its password and give the folder.",
    ),
    "oversized": Reason("files that claim a size beyond any cardiac cine"),
    "damaged": Reason("files that are damaged or cut off", _AGAIN),
    "unreadable": Reason(
        "files or folders that this user may not read, or that are not plain files",
        "Ask for the right to read the files.",
    ),
    "mask-file": Reason("segmentations (`_gt`), which are not images"),
    "other-nifti": Reason("further NIfTI files next to the one that is read"),
    "long-axis-nifti": Reason("NIfTI files of fewer than 4 slices, such as long-axis views"),
    "not-an-image": Reason("DICOM objects without pixels, such as a DICOMDIR", _IMAGES),
    "report": Reason("structured reports (DICOM SR)", _IMAGES),
    "document": Reason("encapsulated documents (PDF, CDA, STL or OBJ in DICOM)", _IMAGES),
    "presentation-state": Reason(
        "presentation states, which only say how images are displayed",
        "Export the images that they refer to too.",
    ),
    "raw-data": Reason("raw data and spectroscopy, which are not images", _IMAGES),
    "contours": Reason("segmentations and contours of others (SEG, RT structure sets)", _IMAGES),
}

# DICOM images that cannot be a short-axis cine, whatever their place.
IMAGE_REASONS = {
    "not-mr": Reason(
        "images of another modality than MR",
        "Only MR can be measured here; give the MR examination of this visit.",
    ),
    "not-grey": Reason(
        "colour images (RGB, YBR or palette)",
        "Export the grey-scale images (PhotometricInterpretation MONOCHROME2): colour overlays "
        "and fused images cannot be measured.",
    ),
    "video": Reason(
        "videos (MPEG-2, H.264 or H.265 in DICOM)",
        "Export the cine as MR images instead of a video, which has no place in the patient.",
    ),
    "htj2k": Reason(
        "images compressed with High-Throughput JPEG 2000 (HTJ2K, transfer syntaxes "
        "1.2.840.10008.1.2.4.201 to .203), which no decoder here reads",
        "Have the archive send explicit VR little endian or JPEG 2000 lossless; or, after pip "
        "install pylibjpeg pylibjpeg-openjpeg, decompress copies in Python: ds = "
        "pydicom.dcmread(file); ds.decompress(); ds.save_as(copy).",
    ),
    "jpeg-xl": Reason(
        "images compressed with JPEG XL (transfer syntaxes 1.2.840.10008.1.2.4.110 to .112), "
        "which no decoder here reads",
        "Have the archive send explicit VR little endian or JPEG 2000 lossless.",
    ),
    "pixels-elsewhere": Reason(
        "images whose pixels lie on a server (JPIP referenced), not in the file",
        "Have the archive send the pixels: explicit VR little endian or JPEG 2000 lossless.",
    ),
    "no-orientation": Reason(
        "images without an orientation in the patient",
        "Export again with ImageOrientationPatient kept.",
    ),
    "no-position": Reason(
        "images without a position in the patient", "Export again with ImagePositionPatient kept."
    ),
    "no-frame-group": Reason(
        "frames of multi-frame images whose file does not say where they lie", _AGAIN
    ),
    "multi-frame": Reason(
        "multi-frame images without a place for each frame",
        "Export enhanced MR with its functional groups, or classic single-frame MR.",
    ),
    "no-pixel-spacing": Reason(
        "images without a pixel spacing, so nothing can be measured",
        "Export again with PixelSpacing: there are no volumes without it.",
    ),
    "pixel-spacing": Reason("images whose pixel spacing is impossible for a cardiac image"),
    "screenshot": Reason("secondary captures and screenshots, which carry no geometry", _ORIGINALS),
    "burned-in": Reason(
        "images with writing burned into the pixels (BurnedInAnnotation)",
        "Export the originals without annotations: writing would be measured as tissue. Where "
        "nothing is written in them, export again with BurnedInAnnotation NO.",
    ),
    "flow": Reason("flow images (phase contrast)"),
    "not-magnitude": Reason("real, imaginary or phase images", "Export the magnitude images."),
    "tagging": Reason("tagged images"),
    "perfusion": Reason("perfusion images"),
    "late-enhancement": Reason("late enhancement images"),
    "map": Reason("parametric maps or the images they are fitted to"),
    "reformat": Reason("reformats and projections computed from other images", _ORIGINALS),
    "duplicate-file": Reason("exact copies of images that are used"),
    "undecodable": Reason(
        "images whose pixels could not be decoded",
        "Export again uncompressed (explicit VR little endian): the files may be damaged or of a "
        "rare compression.",
    ),
    "regex": Reason(
        "images whose series description does not match --series-regex",
        "Check the series' descriptions and change --series-regex.",
    ),
}

# Images at places or times that are not those of the cine that was chosen.
STACK_REASONS = {
    "too-few-phases": Reason("images of places with fewer than 8 phases"),
    "too-few-positions": Reason(
        "images of cine at fewer than 4 parallel places, such as long-axis views"
    ),
    "not-parallel": Reason(
        "images of slices that are not parallel: their tilt grows along the stack",
        "Areas of slices that fan out do not add up to a volume; give a stack of parallel slices.",
    ),
    "axial": Reason("images of axial stacks"),
    "coronal": Reason("images of coronal stacks"),
    "sagittal": Reason("images of sagittal stacks"),
    "real-time": Reason("images of real-time cine that runs over several beats"),
    "time-span": Reason("images of dynamic series that last longer than a beat, such as perfusion"),
    "thin-volume": Reason("images of 3-D volumes of thin slices"),
    "ambiguous-phases": Reason("images whose order in time is ambiguous"),
    "other-state": Reason("images of these slices in another state, such as stress"),
    "repeated-slices": Reason(
        "images of slices acquired again; the complete and latest ones are used"
    ),
    "other-stack": Reason("images of stacks that are not the one chosen"),
}

REASONS: Mapping[str, Reason] = {**FILE_REASONS, **IMAGE_REASONS, **STACK_REASONS}

# ------------------------------------------------------------------ told by bytes, name or UID

# Kinds of files of other programs: by their first bytes, and by the ends of their names.
_FORMATS: tuple[tuple[str, re.Pattern[bytes], tuple[str, ...]], ...] = (
    (
        "metaimage-file",
        re.compile(rb"(?:(?:Comment *=|#).*\n)*(?:ObjectType|NDims) *=", re.IGNORECASE),
        (".mha", ".mhd"),
    ),
    ("nrrd-file", re.compile(rb"NRRD000"), (".nrrd", ".nhdr")),
    # The length of the header, in either byte order; one-file NIfTI is recognised before.
    ("analyze-file", re.compile(rb"\x5c\x01\0\0|\0\0\x01\x5c"), (".hdr",)),
    ("pdf-file", re.compile(rb"%PDF-"), (".pdf",)),
    ("office-file", re.compile(rb"\xd0\xcf\x11\xe0"), (".doc", ".xls", ".ppt", "thumbs.db")),
    (
        "video-file",
        re.compile(rb"....ftyp|RIFF....AVI |\0\0\x01[\xba\xb3]|\x1aE\xdf\xa3", re.DOTALL),
        (".mp4", ".avi", ".mov", ".wmv", ".mpg"),
    ),
)

# Storage classes without an image of their own, by the first parts of their UID.
_CLASS = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASSES = (
    ("screenshot", (f"{_CLASS}7",)),
    ("report", (f"{_CLASS}88",)),
    ("presentation-state", (f"{_CLASS}11",)),
    ("document", (f"{_CLASS}104",)),
    ("contours", (f"{_CLASS}66.4", f"{_CLASS}66.5", f"{_CLASS}481.3")),
    ("raw-data", (f"{_CLASS}66", f"{_CLASS}4.2", f"{_CLASS}9")),
    ("video", tuple(f"{_CLASS}77.1.{kind}.1" for kind in (1, 2, 4))),
)
_SYNTAX = "1.2.840.10008.1.2.4."
_TRANSFER_SYNTAXES = (
    ("video", tuple(f"{_SYNTAX}{number}" for number in range(100, 109))),
    ("htj2k", tuple(f"{_SYNTAX}{number}" for number in (201, 202, 203))),
    ("jpeg-xl", tuple(f"{_SYNTAX}{number}" for number in (110, 111, 112))),
    ("pixels-elsewhere", tuple(f"{_SYNTAX}{number}" for number in (94, 95, 204, 205))),
)


def reason_of_file(head: bytes, name: str) -> str:
    """The kind of a file that is not read, by its first bytes, then by its name; else empty."""
    by_bytes = (code for code, magic, _ in _FORMATS if magic.match(head))
    by_name = (code for code, _, ends in _FORMATS if name.lower().endswith(ends))
    return next(by_bytes, None) or next(by_name, "")


@lru_cache(maxsize=256)
def reason_of_uids(sop_class: str, transfer_syntax: str) -> str:
    """Why an object of this class, or pixels of this syntax, are not read; empty where they may be.

    A root stands for all UIDs that begin with it; the first line that has one decides.
    """
    for uid, table in ((sop_class, _SOP_CLASSES), (transfer_syntax, _TRANSFER_SYNTAXES)):
        for code, roots in table:
            if any(f"{uid}.".startswith(f"{root}.") for root in roots):
                return code
    return ""


def left_out(counts: Mapping[str, int]) -> tuple[LeftOut, ...]:
    """Counts by code as records, the most frequent first."""
    order = sorted(((-n, code) for code, n in counts.items() if n > 0))
    return tuple(
        LeftOut(code=code, count=-n, sentence=f"{REASONS[code].what} ({-n})") for n, code in order
    )


def summary(counts: Mapping[str, int]) -> str:
    """All reasons in one line: ``images of axial stacks (240); files of zero bytes (1)``."""
    return "; ".join(item.sentence for item in left_out(counts))


def refusal(counts: Mapping[str, int], code: str, hint: str) -> tuple[str, str]:
    """The code and the hint of a refusal: those of the one reason where all images share it.

    Without images, of the one reason of all files. Else ``code``, and the hint of the reason that
    at least half of the images (or files) have, if it has one, else ``hint``.
    """
    images = {name: n for name, n in counts.items() if name not in FILE_REASONS and n > 0}
    files = {name: n for name, n in counts.items() if name in FILE_REASONS and n > 0}
    found = images or files
    if not found:
        return code, hint
    main = max(found, key=lambda name: (found[name], name))
    fix = REASONS[main].fix if 2 * found[main] >= sum(found.values()) else ""
    return main if len(found) == 1 else code, fix or hint
