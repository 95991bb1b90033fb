"""Digests of plugin code: what they cover, and what changes them."""

from __future__ import annotations

import importlib
import sys

import pytest

import expfw
from expfw.api import plugin_code
from expfw.api.plugin_code import hash_code
from expfw_callbacks.checkpoint import Checkpoint
from expfw_models.cnn import Cnn

MODEL = "import expfw\nclass Mine(expfw.Model):\n    pass\n"


@pytest.fixture
def hash_again(tmp_path, monkeypatch):
    """Writes files in a folder on sys.path, and returns the digests of a class in them, as a new process would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_and_hash(target, files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        plugin_code._hash_package.cache_clear()
        module, _, name = target.partition(":")
        for loaded in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            del sys.modules[loaded]
        importlib.invalidate_caches()
        return hash_code(getattr(importlib.import_module(module), name))

    return write_and_hash


@pytest.mark.parametrize(
    ("changed", "is_code"),
    [
        ("coded/layers/dense.py", True),
        ("coded/other.py", True),
        ("coded/layers/fast.so", True),
        ("coded/__pycache__/other.cpython-311.pyc", False),
        ("coded/README.md", False),
        ("elsewhere.py", False),
    ],
)
@pytest.mark.parametrize("init", ["", None])
def test_the_digest_of_a_package_covers_all_its_code(hash_again, changed, is_code, init):
    files = {"coded/model.py": MODEL} | (
        {"coded/__init__.py": init, "coded/layers/__init__.py": ""} if init == "" else {}
    )
    before = hash_again("coded.model:Mine", files)
    assert list(before) == ["coded"]
    assert hash_again("coded.model:Mine", files) == before
    assert (hash_again("coded.model:Mine", files | {changed: "# changed"}) != before) is is_code


def test_the_digest_is_that_of_the_outermost_package(hash_again):
    files = {"coded/__init__.py": "", "coded/models/__init__.py": "", "coded/models/mine.py": MODEL}
    before = hash_again("coded.models.mine:Mine", files)
    assert list(before) == ["coded"]
    assert hash_again("coded.models.mine:Mine", files | {"coded/layers.py": "# next to models"}) != before


def test_a_base_class_in_another_package_counts(hash_again):
    files = {"single.py": "import expfw_models.cnn\nclass Mine(expfw_models.cnn.Cnn):\n    pass\n"}
    digests = hash_again("single:Mine", files)
    assert list(digests) == ["expfw_models", "single.py"]
    assert digests["expfw_models"] == hash_code(Cnn)["expfw_models"]
    changed = hash_again("single:Mine", {"single.py": files["single.py"] + "# changed"})
    assert changed["expfw_models"] == digests["expfw_models"]
    assert changed["single.py"] != digests["single.py"]


def test_a_base_class_that_is_not_a_plugin_counts(hash_again):
    model = "import abc, expfw, mixins\nclass Mine(mixins.Layers, expfw.Model, abc.ABC):\n    pass\n"
    files = {"single.py": model, "mixins.py": "class Layers:\n    pass\n"}
    before = hash_again("single:Mine", files)
    assert list(before) == ["mixins.py", "single.py"]
    after = hash_again("single:Mine", {"mixins.py": files["mixins.py"] + "# changed"})
    assert {name for name in before if before[name] != after[name]} == {"mixins.py"}


def test_a_base_class_of_an_installed_package_counts_if_it_is_a_plugin(hash_again, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    files = {"site-packages/parts.py": "import expfw\nclass Layers:\n    pass\nclass Base(expfw.Model):\n    pass\n"}
    model = "import parts\nclass Mine(parts.Base):\n    pass\n"
    assert list(hash_again("single:Mine", files | {"single.py": model})) == ["parts.py", "single.py"]
    model = "import expfw, parts\nclass Mine(parts.Layers, expfw.Model):\n    pass\n"
    assert list(hash_again("single:Mine", {"single.py": model})) == ["single.py"]


def test_expfw_itself_does_not_count():
    assert list(hash_code(Checkpoint)) == ["expfw_callbacks"]
    assert hash_code(expfw.Callback) == {}
