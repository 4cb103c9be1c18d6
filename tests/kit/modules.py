"""What the modules of the package hold, each of them parsed once."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cardiometa

PACKAGE = Path(cardiometa.__file__).parent
WRITERS = {"write_text", "write_bytes", "unlink", "mkdir", "rename", "rmtree", "touch", "savefig"}


@dataclass
class Module:
    """One module: what it imports (also inside functions), defines, says and writes."""

    path: Path
    parts: tuple[str, ...]
    own: set[str] = field(default_factory=set)  # dotted names below the package
    others: set[str] = field(default_factory=set)  # top-level names of other packages
    names: list[tuple[int, str]] = field(default_factory=list)  # functions and classes
    functions: list[tuple[str, int, int]] = field(default_factory=list)  # lines, parameters
    strings: list[tuple[int, str]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return ".".join(self.parts)

    @property
    def stage(self) -> str:
        return self.parts[0]


@cache
def modules() -> list[Module]:
    """Every module of the package but the examples, which the wheel has inside."""
    paths = sorted(PACKAGE.rglob("*.py"))
    placed = [(path, path.relative_to(PACKAGE).with_suffix("").parts) for path in paths]
    return [_read(path, parts) for path, parts in placed if parts[0] != "examples"]


def _read(path: Path, parts: tuple[str, ...]) -> Module:
    module = Module(path, parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            module.others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = node.module.split(".") if node.module else []
            if node.level or named[0] == "cardiometa":
                base = [*parts[: len(parts) - node.level], *named] if node.level else named[1:]
                names = [".".join([*base, alias.name]) for alias in node.names]
                module.own |= {*names, *([".".join(base)] if base else [])}
            else:
                module.others.add(named[0])
        elif isinstance(node, ast.Call):
            module.writes += _written(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module.strings.append((node.lineno, node.value))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            module.names.append((node.lineno, node.name))
            if isinstance(node, ast.FunctionDef):
                place = f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"
                count = len(node.args.args) + len(node.args.kwonlyargs)
                module.functions.append((place, (node.end_lineno or 0) - node.lineno + 1, count))
    return module


def _written(node: ast.Call) -> list[str]:
    """The call, where it writes a file otherwise than by ``files``."""
    function = node.func
    if isinstance(function, ast.Name) and function.id == "open":
        modes = [str(a.value) for a in node.args[1:] if isinstance(a, ast.Constant)]
        return [f"{node.lineno} open" for mode in modes if {"w", "a"} & set(mode)]
    if not isinstance(function, ast.Attribute) or function.attr not in WRITERS:
        return []
    ours = isinstance(function.value, ast.Name) and function.value.id == "files"
    in_memory = function.attr == "savefig"
    return [] if ours or in_memory else [f"{node.lineno} {function.attr}"]
