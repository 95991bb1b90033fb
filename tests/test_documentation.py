"""What the documentation names is there."""

from __future__ import annotations

import re

from conftest import ROOT


def named_tests():
    """File and function of every test that docs/reliability.md names; the function is empty for a whole file."""
    file = ""
    for path, function in re.findall(r"`(?:(tests/[\w/]+\.py|benchmarks/\w+\.py)?(?:::(\w+))?)`", text()):
        file = path or file
        if path or function:
            yield file, function


def text():
    return (ROOT / "docs" / "reliability.md").read_text()


def test_every_promise_names_tests_that_are_there():
    found = list(named_tests())
    assert len(found) > 25
    for file, function in found:
        assert (ROOT / file).is_file(), file
        assert not function or f"\ndef {function}(" in (ROOT / file).read_text(), f"{file}::{function}"


def test_every_promise_has_one():
    rows = [line for line in text().splitlines() if line.startswith("| ") and "`tests/" in line]
    section = text().split("which test holds it\n")[1].split("\n## ")[0]
    promises = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert promises
    assert set(promises) <= set(rows)
