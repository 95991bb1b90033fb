"""All steps of docs/guide/tutorial.md after the installation, in a new environment with the wheel."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT
from support.documentation_examples import PageRunner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "guide" / "tutorial.md"


def test_the_tutorial_works(installed, tmp_path):
    folder = tmp_path / "try"
    folder.mkdir()
    runner = PageRunner(folder, installed.variables)
    runner.run_page(PAGE)

    (first_run,) = re.findall(r"^FINISHED .* (runs/\S+)$", runner.outputs[0][1], re.MULTILINE)
    files_on_page = re.findall(r"^\| `([\w.]+)/?` \|", PAGE.read_text(), re.MULTILINE)
    assert len(files_on_page) == 9
    assert set(files_on_page) <= {path.name for path in (folder / first_run).iterdir()}
