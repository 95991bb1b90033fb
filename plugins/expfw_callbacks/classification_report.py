"""Precision, recall and F1 of each class."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import expfw
from expfw_callbacks.plots.samples import count_confusion, get_class_names


class ClassificationReport(expfw.Callback):
    """Writes precision, recall and F1 of each class, and the confusion matrix.

    The tables are CSV files in `evaluation/` of the run folder. The trained model is evaluated on the test data, or on
    the validation or training data if the dataset has no test data. Datasets without classes get no tables.
    """

    @dataclass
    class Config:
        samples: int = expfw.option(100_000, help="maximum number of samples to evaluate", at_least=1)

    data: expfw.Splits | None = None
    model: Any = None

    @expfw.hookimpl
    def expfw_run_started(self, data: expfw.Splits, model: Any) -> None:
        self.data, self.model = data, model

    @expfw.hookimpl
    def expfw_run_ended(self, run: expfw.Run, result: expfw.Result) -> None:
        if self.data is None or result.error is not None:
            return
        confusion = count_confusion(run, self.model, self.data, self.config.samples)
        if confusion is None:
            return
        split, counts = confusion
        names = get_class_names(self.data.spec)
        matrix = [[name, *map(int, row)] for name, row in zip(names, counts, strict=True)]
        header = ["class", "precision", "recall", "f1", "samples"]
        tables: dict[str, list[list[Any]]] = {
            "confusion_matrix": [["true \\ predicted", *names], *matrix],
            "classification_report": [header, *make_report_rows(counts, names)],
        }
        folder = run.folder / "evaluation"
        folder.mkdir(exist_ok=True)
        for table, rows in tables.items():
            with open(folder / f"{split}_{table}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)
        run.add_artifact(folder)


def make_report_rows(counts: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """Returns a row for each class (name, precision, recall, F1, number of samples), then two rows of means.

    Precision is the share of correct samples among those predicted as the class. Recall is the share of correct
    samples among those of the class. F1 is the harmonic mean of both. A share of no samples is 0.
    """
    correct, predicted, actual = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    precision, recall = correct / np.maximum(1, predicted), correct / np.maximum(1, actual)
    f1 = 2 * correct / np.maximum(1, predicted + actual)
    columns = (precision, recall, f1)
    rows = [[name, *(round(float(c[i]), 4) for c in columns), int(actual[i])] for i, name in enumerate(names)]
    total = int(actual.sum())
    rows.append(["mean of classes", *(round(float(column.mean()), 4) for column in columns), total])
    weighted = (round(float((column * actual).sum() / max(1, total)), 4) for column in columns)
    return [*rows, ["mean of samples", *weighted, total]]
