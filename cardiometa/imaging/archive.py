"""The files of a source, from a folder, a zip or a file: listed, sniffed and read, never unpacked.

Members of a zip are read in memory by their directory entry, so their names are harmless; sizes
are bounded before and while they are read. Nothing is ever written, moved or renamed.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from .exclusions import reason_of_file

Kind = Literal["dicom", "nifti", "zip", "image", "text", "empty", "other"]

HEAD_BYTES = 4096
MAX_FILES = 200_000
MAX_FILE_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 16 * 1024**3
# Images shrink to a fifth, blank ones to a hundredth; what shrinks further and is large is a bomb.
MAX_RATIO = 200
SMALL_BYTES = 64 * 1024**2

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM "
    b"UC UI UL UN UR US UT UV".split()
)
_POINTERS = (b"version https://git-lfs", b"/annex/objects/", b"../.git/annex/", b".git/annex/")


class DamagedFileError(Exception):
    """A file that cannot be read to its end; ``code`` says why. Never leaves this folder."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of a source; ``name`` distinguishes ED from ES, and is never for an output."""

    name: str
    folder: str
    size: int
    path: Path | None = None
    member: zipfile.ZipInfo | None = None


@dataclass(slots=True)
class FileSet:
    """The files of one source by kind, and how many were not usable, by reason.

    ``lost`` are files that may have been images: empty, unreadable or damaged ones.
    """

    by_kind: dict[Kind, list[ImageFile]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    lost: list[ImageFile] = field(default_factory=list)
    archive: zipfile.ZipFile | None = None

    def files(self, kind: Kind) -> list[ImageFile]:
        """The files of one kind, in a fixed order."""
        return self.by_kind.get(kind, [])

    @contextmanager
    def open(self, file: ImageFile) -> Iterator[BinaryIO]:
        """A seekable stream over one file's bytes; raises DamagedFileError."""
        if file.path is not None:
            try:
                stream = file.path.open("rb")
            except OSError:
                raise DamagedFileError("unreadable") from None
            with stream:
                yield stream
        else:
            yield io.BytesIO(self.read(file))

    def read(self, file: ImageFile) -> bytes:
        """All bytes of one file, at most `MAX_FILE_BYTES`; raises DamagedFileError."""
        if file.size > MAX_FILE_BYTES:
            raise DamagedFileError("oversized")
        try:
            if file.path is not None:
                return file.path.read_bytes()
            assert self.archive is not None
            assert file.member is not None
            with self.archive.open(file.member) as stream:
                data = stream.read(file.size + 1)
        except (OSError, *_ZIP_ERRORS):
            raise DamagedFileError("damaged") from None
        # A member that is larger than its entry says is a bomb or damaged.
        if len(data) != file.size:
            raise DamagedFileError("damaged")
        return data


# What zipfile raises for members that are cut off, encrypted or of an unknown compression.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
)


# ------------------------------------------------------------------ sniffing


def sniff_bytes(head: bytes, size: int) -> Kind:
    """The kind of a file from its first bytes (`HEAD_BYTES` of them), whatever its name."""
    if size == 0 or not head:
        return "empty"
    if head[128:132] == b"DICM":
        return "dicom"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head.startswith(_PICTURES):
        return "image"
    if _is_nifti(head):
        return "nifti"
    if _is_bare_dicom(head):
        return "dicom"
    return "text" if _is_text(head, complete=size <= len(head)) else "other"


# What a file that was an image may have become.
MAYBE_IMAGES = frozenset({"pointer-file", "empty-file", "other-file"})
_UNREAD = {"image": "picture-file", "text": "text-file", "other": "other-file"}


def reason_unread(kind: Kind, head: bytes, name: str) -> str:
    """Why a file is not read, by its kind, first bytes and name; empty for DICOM, NIfTI and zip."""
    if kind == "empty":
        return "empty-file"
    if kind == "text" and any(mark in head[:512] for mark in _POINTERS):
        return "pointer-file"  # small text in place of a file that was not fetched
    return (reason_of_file(head, name) or _UNREAD[kind]) if kind in _UNREAD else ""


def _is_nifti(head: bytes) -> bool:
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 1024)
        except zlib.error:
            return False
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    first = 348 in sizes and head[344:347] == b"n+1"
    return first or (540 in sizes and head[4:7] == b"n+2")


def _is_bare_dicom(head: bytes) -> bool:
    """A data set without preamble: a first element of group 2 or 8, of a sound VR or length."""
    if len(head) < 8:
        return False
    order: Literal["little", "big"]
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[i : i + 2], order) for i in (0, 2))
        if group in (0x0002, 0x0008) and element <= 0x1200:
            length = int.from_bytes(head[4:8], order)
            if head[4:6] in _VRS or (0 < length <= 1024 and length % 2 == 0):
                return True
    return False


def _is_text(head: bytes, *, complete: bool) -> bool:
    if b"\x00" in head:
        return head[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut where the head ends.
        if complete or error.start < len(head) - 4:
            printable = sum(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head)
            return printable > 0.98 * len(head)
    return True


# ------------------------------------------------------------------ listing


@contextmanager
def open_files(path: Path) -> Iterator[FileSet]:
    """List and sniff the files of a folder (with all below it), of a zip, or one file.

    A folder with one zip and no image is read as that zip.
    """
    files = FileSet()
    try:
        if path.is_dir():
            _list_folder(path, files)
            archives = files.files("zip")
            if len(archives) == 1 and not files.files("dicom") and not files.files("nifti"):
                inner = archives[0].path
                assert inner is not None
                files.by_kind["zip"] = []
                _list_zip(inner, files)
        else:
            _add(files, ImageFile(path.name, "", _size(path), path=path))
            if files.files("zip"):
                files.by_kind["zip"] = []
                _list_zip(path, files)
        yield files
    finally:
        if files.archive is not None:
            files.archive.close()


def walk(
    top: Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Each folder at and below ``top`` and its files' names, in order; links to folders too.

    A folder that two links lead to comes once, so a loop of links ends; one above ``top`` never.
    """
    seen = {str(folder) for folder in (top.resolve(), *top.resolve().parents)}
    for parent, folders, names in os.walk(top, onerror=onerror, followlinks=True):
        here = sorted((os.path.realpath(f"{parent}/{name}"), name) for name in folders)
        folders[:] = sorted(name for real, name in dict(here).items() if real not in seen)
        seen.update(real for real, _ in here)
        yield parent, sorted(names)


def _size(path: Path) -> int:
    """Bytes of a file, -1 where it is not one: opening a pipe would wait for ever."""
    try:
        facts = path.stat()
    except OSError:
        return -1
    return facts.st_size if stat.S_ISREG(facts.st_mode) else -1


def _list_folder(folder: Path, files: FileSet) -> None:
    count = 0

    def refuse(_: OSError) -> None:
        files.refused["unreadable"] += 1

    for parent, names in walk(folder, refuse):
        relative = os.path.relpath(parent, folder)
        for name in names:
            count += 1
            if count > MAX_FILES:
                files.refused["oversized"] += 1
                return
            path = Path(parent, name)
            _add(files, ImageFile(name, "" if relative == "." else relative, _size(path), path))


def _add(files: FileSet, file: ImageFile) -> None:
    assert file.path is not None
    if file.size < 0:
        # A link to content that git-annex has not fetched, or a file that vanished.
        files.refused["pointer-file" if file.path.is_symlink() else "unreadable"] += 1
        files.lost.append(file)
        return
    try:
        with file.path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        files.refused["unreadable"] += 1
        files.lost.append(file)
        return
    _sort_in(files, file, head)


def _sort_in(files: FileSet, file: ImageFile, head: bytes) -> None:
    kind = sniff_bytes(head, file.size)
    reason = reason_unread(kind, head, file.name)
    if reason:
        files.refused[reason] += 1
    else:
        files.by_kind.setdefault(kind, []).append(file)
    if reason in MAYBE_IMAGES:
        files.lost.append(file)


def _list_zip(path: Path, files: FileSet) -> None:
    try:
        files.archive = zipfile.ZipFile(path)
        members = files.archive.infolist()
    except (OSError, *_ZIP_ERRORS):
        files.refused["damaged"] += 1
        return
    total = 0
    for number, member in enumerate(members):
        if member.filename.endswith("/"):  # `is_dir` fails on an empty name
            continue
        total += member.file_size
        if number >= MAX_FILES or total > MAX_TOTAL_BYTES:
            files.refused["oversized"] += len(members) - number
            break
        parts = member.filename.replace("\\", "/").split("/")
        most = min(MAX_FILE_BYTES, max(SMALL_BYTES, MAX_RATIO * member.compress_size))
        if member.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            files.refused["unsafe-name"] += 1
        elif member.flag_bits & 0x1:
            files.refused["encrypted"] += 1
        elif member.file_size > most:
            files.refused["oversized"] += 1
        else:
            file = ImageFile(parts[-1], "/".join(parts[:-1]), member.file_size, member=member)
            try:
                with files.archive.open(member) as stream:
                    _sort_in(files, file, stream.read(HEAD_BYTES))
            except (OSError, *_ZIP_ERRORS):
                files.refused["damaged"] += 1
                files.lost.append(file)
    if nested := files.by_kind.pop("zip", []):
        files.refused["nested-archive"] += len(nested)
