"""The notebook of the documentation in a real kernel."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "authors" / "examples" / "quick_tour.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(workdir, monkeypatch):
    monkeypatch.setitem(os.environ, "MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook must not contain outputs"
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": workdir}})
    client.execute()
    outputs = [
        str(output.get("data", {}).get("text/plain", "")) for c in notebook.cells for output in c.get("outputs", ())
    ]
    assert any("FINISHED" in text for text in outputs)
    accuracy = next(float(text) for text in outputs if text.startswith("0."))
    assert accuracy > 0.8  # of the best model
    assert (workdir / "runs" / "mlflow.db").exists()
