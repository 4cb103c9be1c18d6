"""Commands run in this process, every print-out kept for a search."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from cardiometa.cli.main import app
from tests.kit.identities import leaks

# `evaluate` of values that trials reported, where the phantoms' hearts are smaller than adults'.
REPORTED = ("--against", "reported", "--accept", "unit")


@dataclass
class Ran:
    """What commands printed, by what they were."""

    code: int
    text: str


@dataclass
class Bench:
    """A folder of runs; every print-out is kept for the search."""

    top: Path
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: object, code: int | tuple[int, ...] = 0) -> Ran:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        # The user's own arguments come back in print-outs: they are no leak.
        text = done.output
        for argument in sorted((str(a) for a in arguments), key=len, reverse=True):
            if "/" in argument:
                text = text.replace(argument, "ARGUMENT")
        name = f"{len(self.printed)} {' '.join(str(a).rpartition('/')[2] for a in arguments)}"
        self.printed[name] = text
        codes = code if isinstance(code, tuple) else (code,)
        assert done.exit_code in codes, (name, done.exit_code, done.output, done.exception)
        assert "Traceback" not in done.output
        return Ran(code=done.exit_code, text=text)

    def leaks(self) -> list[str]:
        """Secrets in the print-outs so far."""
        return [hit for name, text in self.printed.items() for hit in leaks(name, text)]
