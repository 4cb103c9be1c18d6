"""Where scans are: kinds of files by their bytes, and whether a path is one scan.

Nothing here reads pixels, and no value of a header leaves it but through ``identity_values``, which
exists to be compared with folder names.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from ..errors import ImageError, Problem
from ..records import ScanSource
from .archive import HEAD_BYTES, DamagedFileError, FileSet, ImageFile, Kind, open_files, sniff_bytes
from .headers import IDENTITY_TAGS, read_dataset, text, texts, whole
from .nifti import is_mask_name, pair_of

_SAMPLED_FILES = 200


def sniff(path: Path) -> Kind:
    """The kind of one file by its bytes, not its name; ``other`` where it cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return "other"
        with path.open("rb") as stream:
            return sniff_bytes(stream.read(HEAD_BYTES), os.fstat(stream.fileno()).st_size)
    except OSError:
        return "other"


def find_scan_source(path: Path) -> ScanSource | None:
    """The one scan that a file or folder is, None where it holds none or several.

    A file is a scan if it is DICOM, a NIfTI that is not a mask, or a zip. A folder is one if it
    holds an ED and ES pair, a 4-D NIfTI or one a phase, or a single zip, directly; or DICOM
    directly; or DICOM of a single examination anywhere below (series in folders of their own).
    """
    if path.is_file():
        kind = sniff(path)
        if kind in ("dicom", "zip") or (kind == "nifti" and not is_mask_name(path.name)):
            return ScanSource(kind="images", paths=(path,))
        return None
    return _folder_source(path) if path.is_dir() else None


def _folder_source(folder: Path) -> ScanSource | None:
    try:
        # The folder itself says what is a file: 100,000 scans are 30 million files to ask about.
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_file(entry))
    except OSError:
        return None
    kinds: dict[Kind, list[Path]] = defaultdict(list)
    for name in names:
        child = folder / name
        kinds[sniff(child)].append(child)
        # Two say it: the hundreds of files after them need not be opened.
        if len(kinds["dicom"]) == 2:
            break
    if kinds["dicom"] and not _only_directory(kinds["dicom"]):
        return ScanSource(kind="images", paths=(folder,))
    images = [child for child in kinds["nifti"] if not is_mask_name(child.name)]
    pair = pair_of([child.name for child in images])
    if pair is not None and len(images) == 2:
        return ScanSource(kind="ed-es", paths=(folder / pair[0], folder / pair[1]))
    if images:
        return ScanSource(kind="images", paths=(folder,))
    if len(kinds["zip"]) == 1:
        return ScanSource(kind="images", paths=(kinds["zip"][0],))
    return ScanSource(kind="images", paths=(folder,)) if _is_one_examination(folder) else None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links among the images is none of them
        return False


def _only_directory(paths: list[Path]) -> bool:
    """True where the only DICOM file of a folder is its DICOMDIR."""
    if len(paths) != 1:
        return False
    try:
        with paths[0].open("rb") as stream:
            return text(read_dataset(stream, ["Modality", "Rows"]), "Modality") == ""
    except (OSError, DamagedFileError):
        return False


def _is_one_examination(folder: Path) -> bool:
    """True where the images below are of one study: one image of each folder is looked at."""
    studies: set[tuple[str, str]] = set()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            study = _examination(Path(parent, name))
            if study is not None:
                # Images without any id cannot be told apart, so they count as one.
                studies.add(study)
                break
        if len(studies) > 1:
            return False
    return len(studies) == 1


def _examination(path: Path) -> tuple[str, str] | None:
    """Study and patient of an image, None for what is no DICOM image."""
    if sniff(path) != "dicom":
        return None
    try:
        with path.open("rb") as stream:
            dataset = read_dataset(stream, ["StudyInstanceUID", "PatientID", "Rows"])
    except (OSError, DamagedFileError):
        return None
    if whole(dataset, "Rows") is None:
        return None
    return text(dataset, "StudyInstanceUID"), text(dataset, "PatientID")


# ------------------------------------------------------------------ identity, only to compare


def identity_values(source: ScanSource) -> frozenset[str]:
    """Names, ids and birth dates of a scan's headers, casefolded: ONLY to compare with names.

    DICOM headers only; whole values, the parts of a name, and the ways a birth date is written.
    Never print, log or write the result.
    """
    values: set[str] = set()
    for path in source.paths:
        ends = _ends_of_folders(path)
        if ends:
            for file in ends:
                values |= _identities(FileSet(), file)
        elif path.exists():
            with open_files(path) as files:
                for file in _sample(files):
                    values |= _identities(files, file)
    return frozenset(values)


def _ends_of_folders(top: Path) -> list[ImageFile]:
    """What `_sample` takes of a folder, found from both ends without opening what lies between."""
    ends: list[ImageFile] = []
    for parent, folders, names in os.walk(top):
        folders.sort()
        ordered = [Path(parent, name) for name in sorted(names)]
        first = next((path for path in ordered if sniff(path) == "dicom"), None)
        if first is None:
            continue
        last = next(path for path in reversed(ordered) if path == first or sniff(path) == "dicom")
        ends += [ImageFile(path.name, "", 0, path=path) for path in dict.fromkeys((first, last))]
        if len(ends) >= _SAMPLED_FILES:
            break
    return ends[:_SAMPLED_FILES]


def _sample(files: FileSet) -> list[ImageFile]:
    """The first and last DICOM file of each folder, a bounded number of them."""
    by_folder: dict[str, list[ImageFile]] = defaultdict(list)
    for file in files.files("dicom"):
        by_folder[file.folder].append(file)
    ends = [
        file
        for group in by_folder.values()
        for file in {id(f): f for f in (group[0], group[-1])}.values()
    ]
    return ends[:_SAMPLED_FILES]


def _identities(files: FileSet, file: ImageFile) -> set[str]:
    try:
        with files.open(file) as stream:
            dataset = read_dataset(stream, IDENTITY_TAGS)
    except DamagedFileError:
        return set()
    found: set[str] = set()
    for keyword in IDENTITY_TAGS:
        for value in texts(dataset, keyword):
            found.add(value)
            if keyword.endswith(("Name", "Names")):
                parts = value.replace("=", "^").split("^")
                found.update(parts)
                found.update({" ".join(filter(None, parts)), "_".join(filter(None, parts))})
            if keyword == "PatientBirthDate" and len(value) == 8:
                year, month, day = value[:4], value[4:6], value[6:]
                found.update({f"{year}-{month}-{day}", f"{day}.{month}.{year}"})
                found.update({f"{day}{month}{year}", f"{day}-{month}-{year}"})
    return {value.strip().casefold() for value in found if len(value.strip()) > 1}


# ------------------------------------------------------------------ for `check`


def inspect_headers(source: ScanSource) -> list[Problem]:
    """What stands against reading a scan, from headers alone; empty where nothing does.

    ``where`` is ``images``: the caller knows the scan's ids, headers are not repeated.
    """
    from .read import ReadOptions, inspect_scan

    try:
        inspect_scan(source, ReadOptions())
    except ImageError as error:
        return [Problem(where="images", what=error.message.rstrip("."), fix=error.hint)]
    return []
