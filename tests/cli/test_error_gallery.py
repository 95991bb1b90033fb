"""Exact text of all user errors; see tests/gallery/."""

from __future__ import annotations

import re

import pytest
from support.error_gallery import GALLERY_FOLDER, Case, Workspace, open_workspace, read_cases

CASES = [case for file in sorted(GALLERY_FOLDER.glob("*.txt")) for case in read_cases(file)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"):
            patch.delenv(name, raising=False)
        with open_workspace(tmp_path_factory.mktemp("gallery")) as workspace:
            yield workspace


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.command_line}")
def test_output_and_exit_code_are_unchanged(workspace: Workspace, case: Case, request: pytest.FixtureRequest):
    if case.file == "training":
        request.getfixturevalue("processors")
    assert str(workspace.run_case(case)) == str(case)


def test_each_error_is_one_line_after_at_most_one_warning():
    for case in CASES:
        if case.exit_code == 2:
            assert re.fullmatch(r"(.+\n)?expfw: .+\n", case.output), case
            assert len(case.output) < 600, case
            assert re.search(r"hydra\.errors|omegaconf|Traceback", case.output) is None, case


def test_no_command_is_repeated():
    command_lines = [case.command_line for case in CASES]
    assert sorted(command_lines) == sorted(set(command_lines))
    assert len(command_lines) >= 250
