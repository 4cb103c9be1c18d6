"""Identifiers and every text that a user can see are in the field's words, and files stay small."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.kit.modules import PACKAGE, modules

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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


def words_of(name: str) -> set[str]:
    return set(name.lower().strip("_").split("_"))


def test_names_and_strings_have_no_banned_word() -> None:
    found = []
    for module in modules():
        names = [(1, module.path.stem), *module.names]
        words = [(line, name) for line, name in names if words_of(name) & BANNED_NAMES]
        # Docstrings too: they are the reference that people read.
        words += [(n, m.group()) for n, text in module.strings for m in BANNED.finditer(text)]
        found += [f"{module.name}:{line} {word}" for line, word in words]
    assert not found


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.name)
def test_templates_and_documents_have_no_banned_word(path: Path) -> None:
    assert not BANNED.findall(path.read_text(encoding="utf-8"))


def test_no_folder_has_more_than_twenty_modules() -> None:
    count = Counter(m.path.parent for m in modules() if m.path.name != "__init__.py")
    assert not {str(k): v for k, v in count.items() if v > 20}


def test_few_functions_are_long_and_none_has_more_than_twelve_parameters() -> None:
    functions = [function for module in modules() for function in module.functions]
    assert len(functions) > 1000
    assert not [place for place, _, parameters in functions if parameters > 12]
    long = [place for place, lines, _ in functions if lines > 60]
    assert len(long) <= 10, long


def test_modules_import_each_other_in_one_direction() -> None:
    """No circle between modules, imports for types and inside functions included."""
    names = {module.name for module in modules()}
    graph = {module.name: module.own & names - {module.name} for module in modules()}
    while leaves := {n for n, targets in graph.items() if not targets & graph.keys()}:
        graph = {n: targets for n, targets in graph.items() if n not in leaves}
    # What is left lies on a circle or imports one; the members name each other.
    circles = {n for n in graph if any(n in graph.get(t, ()) for t in graph[n])}
    assert not graph, sorted(circles) or sorted(graph)
