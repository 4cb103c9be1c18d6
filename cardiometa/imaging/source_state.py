"""Whether a scan's files are still those it was read from: by number, size and time, else by hash.

Nothing here holds a name or a path: files count in the order of their names, by what they are.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..records import ScanSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """Number and bytes of a source's files, and a digest of each one's size and time."""

    files: int
    size: int
    stat_sha256: str


def _entries(source: ScanSource) -> Iterator[tuple[str, os.stat_result]]:
    """Path and state of every file of a source, in the order of names."""
    for top in source.paths:
        try:
            if not top.is_dir():
                yield str(top), top.stat()
                continue
        except OSError:
            continue
        yield from _below(top)


def _below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118 - a Path for each of 10^8 files is dear
            try:
                yield path, os.stat(path)  # noqa: PTH116 - likewise
            except OSError:
                continue


def source_state(source: ScanSource) -> SourceState:
    """The state of a source without opening a file; files that are not there do not count."""
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
