"""Where scans are: kinds of files by their bytes, whether a path is one scan, whether it changed.

Nothing here reads pixels, and no value of a header leaves it but through ``header_identity``, which
exists to be compared with folder names. `SourceState` has no name or path either: files count in
the order of their names, by what they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..records import ScanSource
from .archive import (
    HEAD_BYTES,
    MAYBE_IMAGES,
    DamagedFileError,
    FileSet,
    ImageFile,
    Kind,
    open_files,
    reason_unread,
    sniff_bytes,
    walk,
)
from .headers import IDENTITY_TAGS, integer, read_dataset, text, texts
from .nifti import is_mask_name, pair_of
from .series import MIN_POSITIONS
from .timing import MIN_PHASES

_SAMPLED_FILES = 200


def sniff(path: Path) -> Kind:
    """The kind of one file by its bytes, not its name; ``other`` where it cannot be read."""
    return _head(path)[0]


def _head(path: Path) -> tuple[Kind, bytes]:
    """The kind of a file and its first bytes."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return "other", b""
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            return sniff_bytes(head, os.fstat(stream.fileno()).st_size), head
    except OSError:
        return "other", b""


def find_scan_source(path: Path) -> ScanSource | None:
    """The one scan that a file or folder is, None where there are none or several.

    A file is a scan if it is DICOM, a NIfTI that is not a mask, or a zip. A folder is one if it
    contains an ED and ES pair, a 4-D NIfTI or one per phase, or a single zip, directly; or DICOM
    directly; or DICOM of a single examination anywhere below (series in folders of their own).
    """
    if path.is_file():
        kind = sniff(path)
        if kind in ("dicom", "zip") or (kind == "nifti" and not is_mask_name(path.name)):
            return ScanSource(kind="images", paths=(path,))
        return None
    return _folder_source(path) if path.is_dir() else None


def _folder_source(folder: Path) -> ScanSource | None:
    kinds: dict[Kind, list[Path]] = defaultdict(list)
    try:
        # The folder itself says what is a file: 100,000 scans are 30 million files to ask about.
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_file(entry))
    except OSError:
        return None
    for child in (folder / name for name in names):
        kinds[sniff(child)].append(child)
        # Two are enough: the hundreds of files after them need not be opened.
        if len(kinds["dicom"]) == 2:
            break
    in_folder = ScanSource(kind="images", paths=(folder,))
    if kinds["dicom"]:
        # A folder whose only DICOM file is its DICOMDIR has its images elsewhere.
        alone = _read(kinds["dicom"][0], ["Modality", "Rows"]) if len(kinds["dicom"]) == 1 else None
        if alone is None or text(alone, "Modality"):
            return in_folder
    images = [child for child in kinds["nifti"] if not is_mask_name(child.name)]
    pair = pair_of([child.name for child in images])
    if pair is not None and len(images) == 2:
        return ScanSource(kind="ed-es", paths=(folder / pair[0], folder / pair[1]))
    if not images and len(kinds["zip"]) == 1:
        return ScanSource(kind="images", paths=(kinds["zip"][0],))
    return in_folder if images or is_single_study(folder) else None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links among the images is none of them
        return False


def _read(path: Path, keywords: Sequence[str]) -> Any:
    """Elements of one file, None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return read_dataset(stream, keywords)
    except (OSError, DamagedFileError):
        return None


def is_single_study(folder: Path, *, named: bool = False, documents: bool = False) -> bool:
    """True where the images below are of one study; one image of each folder is opened.

    ``named``: only where all headers say so: one StudyInstanceUID of one day, in each folder with
    files, no image twice, which would be a copy under another name, and no folder that cannot be
    opened. ``documents``: folders of documents alone do not count next to two with images.
    """
    closed: list[OSError] = []
    keywords = ["StudyInstanceUID", "PatientID", "AcquisitionDate"]
    studies: set[tuple[str, ...]] = set()
    images: list[str] = []
    others = 0  # folders without an image
    for parent, names in walk(folder, closed.append):
        paths = [Path(parent, name) for name in names]
        for path in paths:
            dataset = None
            if sniff(path) == "dicom":
                dataset = _read(path, [*keywords, "SOPInstanceUID", "Rows"])
            if dataset is not None and integer(dataset, "Rows") is not None:
                # Images without any id cannot be distinguished, so they count as one.
                ids = tuple(text(dataset, keyword) for keyword in keywords)
                images.append(text(dataset, "SOPInstanceUID"))
                studies.add(ids if named else ids[:2])
                if named and not ids[0]:
                    return False
                break
        else:
            shown = [path for path in paths if not path.name.startswith(".")]
            others += len(shown) > 0
            if named and shown and not (documents and all(map(_is_document, shown))):
                return False
        if len(studies) > 1 or (named and len(set(images)) < len(images)):
            return False
    sound = not closed and (not others or len(images) > 1)
    return len(studies) == 1 and (sound or not named)


_DOCUMENT = re.compile(r"\.(txt|csv|tsv|xml|json|html?|md|log|ini|rtf)$", re.IGNORECASE)


def _is_document(path: Path) -> bool:
    """True for a file that never was an image: a document, picture or video, or named as text."""
    kind, head = _head(path)
    reason = reason_unread(kind, head, path.name)
    return reason not in ("", "text-file", *MAYBE_IMAGES) or (
        reason == "text-file" and bool(_DOCUMENT.search(path.name))
    )


def has_several_cines(folder: Path) -> bool:
    """True where folders in ``folder`` each contain a complete short-axis cine at the same places.

    Whatever their identifiers, they may be of several participants or visits. Headers are read
    only where two folders have images enough for a cine.
    """
    large = 0
    for child in folder.iterdir():
        paths = [Path(parent, name) for parent, names in walk(child) for name in names]
        first = next((path for path in paths if sniff(path) == "dicom"), None)
        dataset = None if first is None else _read(first, ["NumberOfFrames"])
        frames = 0 if dataset is None else integer(dataset, "NumberOfFrames") or 1
        large += frames * len(paths) >= MIN_POSITIONS * MIN_PHASES
    if large < 2:
        return False
    from .read import ReadOptions, inspect_scan

    with suppress(ImageError):
        found = inspect_scan(ScanSource(kind="images", paths=(folder,)), ReadOptions())
        return any(flag.code == "several-cines" for flag in found.flags)
    return False


# ------------------------------------------------------------------ identity, only to compare


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderIdentity:
    """Who a scan's headers name, casefolded: ONLY to compare; never print, log or write it.

    ``texts``: names, ids and birth dates, complete, the parts of a name, and the ways a birth date
    is written. ``person``: PatientName, PatientID and PatientBirthDate of one image.
    """

    texts: frozenset[str] = frozenset()
    person: tuple[str, str, str] = ("", "", "")


def header_identity(source: ScanSource) -> HeaderIdentity:
    """The identity in the first and last image of each folder; empty where there is no DICOM."""
    values: set[str] = set()
    persons: list[tuple[str, str, str]] = []

    def add(files: FileSet, file: ImageFile) -> None:
        try:
            with files.open(file) as stream:
                dataset = read_dataset(stream, IDENTITY_TAGS)
        except DamagedFileError:
            return
        for keyword in IDENTITY_TAGS:
            for value in texts(dataset, keyword):
                values.add(value)
                if keyword.endswith(("Name", "Names")):
                    parts = value.replace("=", "^").split("^")
                    values.update(parts)
                    values.update({" ".join(filter(None, parts)), "_".join(filter(None, parts))})
                if keyword == "PatientBirthDate" and len(value) == 8:
                    year, month, day = value[:4], value[4:6], value[6:]
                    values.update({f"{year}-{month}-{day}", f"{day}.{month}.{year}"})
                    values.update({f"{day}{month}{year}", f"{day}-{month}-{year}"})
        name, number, birth = (
            " ".join(texts(dataset, tag)).strip().casefold() for tag in IDENTITY_TAGS[:3]
        )
        persons.append((name, number, birth))

    for path in source.paths:
        ends = _ends_of_folders(path)
        if ends:
            for file in ends:
                add(FileSet(), file)
        elif path.exists():
            with open_files(path) as files:
                by_folder: dict[str, list[ImageFile]] = defaultdict(list)
                for file in files.files("dicom"):
                    by_folder[file.folder].append(file)
                pairs = [(group[0], group[-1]) for group in by_folder.values()]
                sample = {id(file): file for pair in pairs for file in pair}
                for file in list(sample.values())[:_SAMPLED_FILES]:
                    add(files, file)
    person = next((person for person in persons if any(person)), ("", "", ""))
    known = (value.strip().casefold() for value in values)
    return HeaderIdentity(texts=frozenset(v for v in known if len(v) > 1), person=person)


def _ends_of_folders(top: Path) -> list[ImageFile]:
    """The first and last DICOM file of each folder, without opening what lies between."""
    ends: list[ImageFile] = []
    for parent, names in walk(top):
        ordered = [Path(parent, name) for name in names]
        first = next((path for path in ordered if sniff(path) == "dicom"), None)
        if first is None:
            continue
        last = next(path for path in reversed(ordered) if path == first or sniff(path) == "dicom")
        ends += [ImageFile(path.name, "", 0, path=path) for path in dict.fromkeys((first, last))]
        if len(ends) >= _SAMPLED_FILES:
            break
    return ends[:_SAMPLED_FILES]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """Number and bytes of a source's files, and a digest of each one's size and time."""

    files: int
    size: int
    stat_sha256: str


def _entries(source: ScanSource) -> Iterator[tuple[str, os.stat_result]]:
    """Path and state of every file of a source, in the order of names."""
    for top in source.paths:
        with suppress(OSError):
            if not top.is_dir():
                yield str(top), top.stat()
                continue
        for parent, names in walk(top):
            for name in names:
                # A Path for each of 10^8 files is expensive.
                path = os.path.join(parent, name)  # noqa: PTH118
                with suppress(OSError):
                    yield path, os.stat(path)  # noqa: PTH116


def source_state(source: ScanSource) -> SourceState:
    """The state of a source without opening a file; absent files do not count."""
    digest = hashlib.sha256()
    count = size = 0
    for _, state in _entries(source):
        count += 1
        size += state.st_size
        digest.update(b"%d %d\n" % (state.st_size, state.st_mtime_ns))
    return SourceState(files=count, size=size, stat_sha256=digest.hexdigest())


def content_sha256(source: ScanSource) -> str | None:
    """A digest over the bytes of all files of a source; None where one cannot be read."""
    digest = hashlib.sha256()
    for path, state in _entries(source):
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
            continue
        try:
            with open(path, "rb") as stream:  # noqa: PTH123 - as above
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError:
            return None
    return digest.hexdigest()
