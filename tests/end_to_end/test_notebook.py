"""The notebook of the documentation, in a real kernel."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "authors" / "examples" / "quick_tour.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(workdir, monkeypatch):
    monkeypatch.setitem(os.environ, "MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": workdir}})
    client.execute()
    said = [
        str(output.get("data", {}).get("text/plain", "")) for c in notebook.cells for output in c.get("outputs", ())
    ]
    assert any("FINISHED" in text for text in said)
    share = next(float(text) for text in said if text.startswith("0."))
    assert share > 0.8  # of the digits that the best model tells
    assert (workdir / "runs" / "mlflow.db").exists()
