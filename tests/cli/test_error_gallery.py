"""Every error that a user can cause, word by word; see tests/gallery/."""

from __future__ import annotations

import re

import pytest
from support.error_gallery import GALLERY_FOLDER, Case, Workspace, open_workspace, read_cases

CASES = [case for file in sorted(GALLERY_FOLDER.glob("*.txt")) for case in read_cases(file)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"):
            patch.delenv(name, raising=False)
        with open_workspace(tmp_path_factory.mktemp("gallery")) as made:
            yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.command_line}")
def test_what_is_said(here: Workspace, case: Case, request: pytest.FixtureRequest):
    if case.file == "training":
        request.getfixturevalue("processors")
    assert str(here.run_case(case)) == str(case)


def test_each_is_one_line_perhaps_behind_a_warning():
    for case in CASES:
        if case.exit_code == 2:
            assert re.fullmatch(r"(.+\n)?expfw: .+\n", case.output), case
            assert len(case.output) < 600, case
            assert re.search(r"hydra\.errors|omegaconf|Traceback", case.output) is None, case


def test_no_command_stands_there_twice():
    typed = [case.command_line for case in CASES]
    assert sorted(typed) == sorted(set(typed))
    assert len(typed) >= 250
