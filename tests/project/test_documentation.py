"""Files, tests, options and links that the documentation names exist."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from support.fake_distributions import GOOD_CALLBACK, temporary_site

from expfw.api.run_config import Sweep
from expfw.config.compose import compose
from expfw.plugins.catalogue import get_catalogue

RELIABILITY_PAGE = (ROOT / "docs" / "reference" / "reliability.md").read_text()
CLUSTER_PAGE = (ROOT / "docs" / "guide" / "cluster.md").read_text()


def test_every_test_that_reliability_names_exists():
    names = re.findall(r"`(?:((?:tests|benchmarks)/[\w/]+\.py)?(?:::(\w+))?)`", RELIABILITY_PAGE)
    assert len([pair for pair in names if any(pair)]) > 25
    file = ""
    for path, function in names:
        file = path or file
        assert not path or (ROOT / path).is_file(), path
        assert not function or f"\ndef {function}(" in (ROOT / file).read_text(), f"{file}::{function}"


def test_every_promise_names_a_test():
    rows = [line for line in RELIABILITY_PAGE.splitlines() if line.startswith("| ") and "`tests/" in line]
    section = RELIABILITY_PAGE.split("## Promises and their tests\n")[1].split("\n## ")[0]
    headers = ("| promise | test |", "| --- | --- |")
    promises = [line for line in section.splitlines() if line.startswith("| ") and line not in headers]
    assert promises
    assert set(promises) <= set(rows)


def test_generated_tables_omit_third_party_plugins(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_generate"))
    generate = importlib.import_module("generate")
    page = (ROOT / "docs" / "reference" / "command-reference.md").read_text()
    with temporary_site(tmp_path) as planted:
        planted.install_distribution("expfw-other", GOOD_CALLBACK, {"callback/other": "Good"})
        assert get_catalogue().find_entries("callback", "other")
        assert generate.fill_page(page) == page


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_linked_pages_and_sections_exist(page):
    for file, section in re.findall(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)", page.read_text()):
        path = page.parent / file if file else page
        assert path.exists(), file
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if section else []
        assert not section or section in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings], (
            section
        )


def test_options_and_extras_on_the_cluster_page_exist():
    known = {field.name for field in fields(Sweep)}
    assert set(re.findall(r"\bsweep\.(\w+)", CLUSTER_PAGE)) <= known
    extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    for extra in re.findall(r"expfw\[(\w+)\]", CLUSTER_PAGE):
        assert f"\n{extra} = [" in extras, extra


def test_launcher_options_on_the_cluster_page_exist():
    if find_spec("hydra_plugins") is None:
        pytest.skip("hydra's launchers are not installed: pip install 'expfw[ray,slurm]'")
    from hydra_plugins.hydra_ray_launcher._config import RayConf
    from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

    known = {field.name for field in fields(SlurmQueueConf)} | {"ray"}
    assert set(re.findall(r"hydra\.launcher\.(\w+)", CLUSTER_PAGE)) <= known
    assert set(re.findall(r"hydra\.launcher\.ray\.(\w+)", CLUSTER_PAGE)) <= {field.name for field in fields(RayConf)}
    preset = CLUSTER_PAGE.split("```yaml\n")[1].split("```")[0]
    assert set(re.findall(r"^(\w+): ", preset, re.MULTILINE)) - {"defaults"} <= known
    defaults = SlurmQueueConf()
    assert (defaults.timeout_min, defaults.array_parallelism, defaults.max_num_timeout) == (60, 256, 0)
    for text in ("**default: 60 minutes**", "`hydra.launcher.array_parallelism`; default: 256", "limit; default: 0 |"):
        assert text in CLUSTER_PAGE


def test_the_variant_and_the_recipe_of_the_configuration_page_compose(workdir):
    parts = (ROOT / "docs" / "reference" / "configuration-reference.md").read_text().split("```yaml\n")
    paths = [re.findall(r"`(conf/\w+/\w+\.yaml)`", part)[-1] for part in parts[:-1]]
    files = dict(zip(paths, (part.partition("```")[0] for part in parts[1:]), strict=True))
    assert list(files) == ["conf/model/wide.yaml", "conf/experiment/mine.yaml"]
    for path, text in files.items():
        (workdir / path).parent.mkdir(parents=True)
        (workdir / path).write_text(text)
    assert compose(["model=wide"]).model["units"] == 512
    mine = compose(["experiment=mine", "train.epochs=5"])
    assert (mine.model["activation"], mine.train.batch_size, mine.train.epochs) == ("tanh", 32, 5)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Returns the pages of the site, built like `make docs`, without their code blocks."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    zensical = Path(sys.executable).with_name("zensical")
    subprocess.run([zensical, "build", "--strict"], cwd=folder, check=True, capture_output=True, timeout=120)
    code_block = r"(?s)<(pre|script|style)\b.*?</\1>"
    return {page.stem: re.sub(code_block, "", page.read_text()) for page in (folder / "site").rglob("*.html")}


def test_the_site_has_every_page_and_renders_all_code_blocks(pages):
    assert {page.stem for page in (ROOT / "docs").rglob("*.md")} <= pages.keys()
    assert [name for name, page in pages.items() if "```" in page] == []


def test_ordered_lists_on_the_site_keep_their_numbers(pages):
    assert re.findall(r'<ol(?: start="?(\d+)"?)?>', pages["architecture"]) == ["", "9"]
