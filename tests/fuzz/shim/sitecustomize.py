"""Makes one call to the system go wrong: loaded by every Python whose PYTHONPATH has this folder.

Counted are the calls that change something below ``FAULT_UNDER``: mkdir, open for writing, write,
fsync, replace, unlink. The one with the number ``FAULT_AT`` fails with ``FAULT_KIND`` (a name of
`errno`), or sends that signal to the run (``SIGKILL`` …) and then goes on. With ``FAULT_STAYS`` all
later ones fail too, as on a disk that is full. ``FAULT_COUNT`` is the file that holds the number of
calls so far, for all processes of the run; ``FAULT_PID`` is whom a signal goes to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal


def _install(environment: dict[str, str]) -> None:  # noqa: PLR0915 - one closure
    under = os.path.realpath(environment["FAULT_UNDER"])
    at, kind = int(environment["FAULT_AT"]), environment["FAULT_KIND"]
    stays = bool(environment.get("FAULT_STAYS"))
    real = {n: getattr(os, n) for n in ("open", "write", "fsync", "replace", "mkdir", "unlink")}
    opened: set[int] = set()

    def count() -> int:
        descriptor = real["open"](environment["FAULT_COUNT"], os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            number = int(os.read(descriptor, 32) or b"0") + 1
            os.lseek(descriptor, 0, os.SEEK_SET)
            real["write"](descriptor, str(number).encode())
        finally:
            os.close(descriptor)
        return number

    def strike(name: str) -> None:
        number = count()
        if number != at and not (stays and number > at and name != "unlink"):
            return
        if kind.startswith("SIG"):
            if number == at:
                os.kill(int(environment.get("FAULT_PID", os.getpid())), getattr(signal, kind))
            return
        code = getattr(errno, kind)
        raise OSError(code, os.strerror(code))

    def ours(path: object) -> bool:
        folder, name = os.path.split(path)
        whole = os.path.realpath(folder or ".") + os.sep + name
        return whole == under or whole.startswith(under + os.sep)

    def open_(path, flags, *more, **options):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        wanted = not isinstance(path, int) and ours(path) and options.get("dir_fd") is None
        if wanted and writes:
            strike("open")
        descriptor = real["open"](path, flags, *more, **options)
        if wanted:
            opened.add(descriptor)
        else:
            opened.discard(descriptor)
        return descriptor

    def write(descriptor, data):
        if descriptor in opened:
            strike("write")
        return real["write"](descriptor, data)

    def fsync(descriptor):
        if descriptor in opened:
            strike("fsync")
        return real["fsync"](descriptor)

    def replace(source, target, **options):
        if ours(target):
            strike("replace")
        return real["replace"](source, target, **options)

    def mkdir(path, *more, **options):
        if ours(path) and not os.path.lexists(path):
            strike("mkdir")
        return real["mkdir"](path, *more, **options)

    def unlink(path, **options):
        if ours(path) and os.path.lexists(path):
            strike("unlink")
        return real["unlink"](path, **options)

    for name, function in (
        ("open", open_),
        ("write", write),
        ("fsync", fsync),
        ("replace", replace),
        ("mkdir", mkdir),
        ("unlink", unlink),
    ):
        setattr(os, name, function)


if "FAULT_UNDER" in os.environ:
    _install(dict(os.environ))
