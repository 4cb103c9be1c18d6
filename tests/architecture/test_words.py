"""Identifiers and every text that a user can see are in the field's words, and files stay small."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import cardiometa

PACKAGE = Path(cardiometa.__file__).parent
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODULES = sorted(  # the wheel has the examples inside
    p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] != "examples"
)
README = Path(__file__).resolve().parents[2] / "README.md"
TEXTS = sorted([*PACKAGE.rglob("*.j2"), *EXAMPLES.rglob("*.md"), README])
# Words of a private language, and phrases that no native speaker would write.
BANNED = re.compile(
    r"\b(mend(s|ed|ing)?|crew|nursery|mourn(s|ed)?|sieve|fate|told|whose people|somebody|nobody"
    r"|everybody|of theirs|brought home|bring home|at rest|so that nobody|stands there"
    r"|is no (number|table|list|key|address|kind|event))\b",
    re.IGNORECASE,
)
BANNED_NAMES = frozenset(
    {"mend", "mended", "crew", "nursery", "mourn", "sieve", "fate", "told", "beside", "flight"}
    | {"flights", "hand", "hands", "nobody", "everybody", "lookalikes", "stale"}
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def words_of(name: str) -> set[str]:
    return set(name.lower().strip("_").split("_"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_names_and_strings_have_no_banned_word(path: Path) -> None:
    found = [path.stem] if words_of(path.stem) & BANNED_NAMES else []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and words_of(node.name) & BANNED_NAMES:
            found.append(f"{node.lineno}: {node.name}")
        # Docstrings too: they are the reference that people read.
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [f"{node.lineno}: {m.group()}" for m in BANNED.finditer(node.value)]
    assert not found


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_templates_and_documents_have_no_banned_word(path: Path) -> None:
    assert not BANNED.findall(path.read_text(encoding="utf-8"))


def test_no_folder_has_more_than_twenty_modules() -> None:
    count = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert not {str(k): v for k, v in count.items() if v > 20}


def functions() -> list[tuple[str, ast.FunctionDef]]:
    return [
        (f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef)
    ]


def test_no_function_has_more_than_twelve_parameters() -> None:
    assert not [w for w, f in functions() if len(f.args.args) + len(f.args.kwonlyargs) > 12]


def test_few_functions_are_longer_than_sixty_lines() -> None:
    long = [w for w, f in functions() if (f.end_lineno or 0) - f.lineno + 1 > 60]
    assert len(long) <= 10, long


def test_modules_import_each_other_in_one_direction() -> None:
    """No circle between modules, imports for types and inside functions included."""
    names = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        package = name.split(".")[:-1]
        graph[name] = set()
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = package[: len(package) - node.level + 1]
            base += node.module.split(".") if node.module else []
            targets = {".".join(base), *(".".join([*base, alias.name]) for alias in node.names)}
            graph[name] |= targets & names.keys() - {name}
    while leaves := {n for n, targets in graph.items() if not targets & graph.keys()}:
        graph = {n: targets for n, targets in graph.items() if n not in leaves}
    # What is left lies on a circle or imports one; the members name each other.
    circles = {n for n in graph if any(n in graph.get(t, ()) for t in graph[n])}
    assert not graph, sorted(circles) or sorted(graph)
