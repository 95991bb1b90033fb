"""Dataset `npz`: arrays that cannot be trained on are one-line errors; arrays that are not used are ignored."""

from __future__ import annotations

import numpy as np
import pytest

import expfw
from expfw_datasets.npz import Npz

RNG = np.random.default_rng(0)
X, VALUES, COUNTS = RNG.normal(size=(20, 4)).astype("f4"), RNG.normal(size=20), np.arange(20) % 3
ARCHIVES = [
    ({"y_train": np.where(COUNTS > 1, np.nan, VALUES)}, r"y_train has nan at index \[2\] .*and 5 more such values"),
    ({"y_train": np.where(COUNTS > 1, -np.inf, VALUES)}, r"y_train has -inf at index \[2\]"),
    ({"y_train": VALUES * 1e300}, r"y_train has .*e\+\d+ at index .*finite numbers of type float32"),
    ({"y_train": VALUES, "x_test": X, "y_test": VALUES * np.nan}, "y_test has nan at index"),
    ({"y_train": COUNTS, "x_test": X, "y_test": VALUES}, "y_test has type float64 .*expected classes, as in y_train"),
    ({"y_train": np.zeros(20, [("a", "f4"), ("b", "i8")])}, r"y_train has type \[\('a', '<f4'\), .*real numbers"),
    ({"y_train": np.array([None] * 20)}, "y_train contains Python objects; expected real numbers"),
    ({"y_train": VALUES + 1j}, "y_train has type complex128; expected real numbers"),
    ({"y_train": COUNTS - 1}, "y_train has classes from -1 to 1; expected 0 or more, below 100,000"),
    ({"y_train": COUNTS.astype("u8") + 2**63}, "y_train has classes from .* save values to predict as floats"),
    ({"y_train": 500_000 + COUNTS}, "y_train has classes from 500000 to 500002; expected 0 or more, below 100,000"),
    ({"y_train": VALUES[:3]}, "y_train has 3 entries; expected 20"),
    ({"y_train": np.float64(3)}, r"y_train has shape \(\)"),
    ({"y_train": COUNTS, "weight_train": VALUES}, "weight_train has .*expected one weight of 0 or more"),
    ({"y_train": COUNTS, "weight_train": np.ones((20, 1))}, r"weight_train has shape \(20, 1\)"),
    ({"y_train": COUNTS, "weight_train": VALUES * np.inf}, "weight_train has"),
    ({"y_train": COUNTS, "x_test": X[:, :3], "y_test": COUNTS}, "samples of the test split have shape"),
]


def load_npz(path, **options):
    return Npz(Npz.Config(path=str(path), **options), "npz").load(0)


@pytest.mark.parametrize(("arrays", "expected"), ARCHIVES, ids=[expected for _, expected in ARCHIVES])
def test_unusable_arrays_are_an_error_of_one_line(tmp_path, arrays, expected):
    np.savez(tmp_path / "data.npz", x_train=X, **arrays)
    with pytest.raises(expfw.DataError, match=expected):
        load_npz(tmp_path / "data.npz", validation=0)


def test_arrays_that_are_not_used_may_have_any_content(tmp_path):
    unused = {
        "x_other": X[:3],
        "y_other": np.array([np.nan] * 9),
        "y_names": np.array(["a", "b"]),
        "notes": np.array({}),
    }
    np.savez(tmp_path / "data.npz", x_train=np.asfortranarray(X), y_train=COUNTS.astype("u1"), **unused)
    data = load_npz(tmp_path / "data.npz", validation=0)
    np.testing.assert_array_equal(data.train.x, X)
    assert data.spec.classes == 3
