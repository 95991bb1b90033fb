"""MLflow's tables are created atomically."""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import pytest

from expfw_mlflow.store.database import make_tables

KILLED = """
import itertools, os, sys
from alembic import op
from expfw_mlflow.store.database import make_tables

create, calls = op.create_table, itertools.count(1)
op.create_table = lambda *names, **options: os.kill(os.getpid(), 9) if next(calls) == 5 else create(*names, **options)
make_tables(sys.argv[1])
"""


@pytest.mark.slow
def test_a_process_killed_while_it_creates_tables_leaves_no_unusable_database(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", KILLED, uri], capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    assert "mlflow.db" not in os.listdir(tmp_path)
    make_tables(uri)
    assert os.listdir(tmp_path) == ["mlflow.db"]
    assert [experiment.name for experiment in mlflow.MlflowClient(uri).search_experiments()] == ["Default"]
    size = (tmp_path / "mlflow.db").stat().st_size
    make_tables(uri)  # it already exists
    assert (tmp_path / "mlflow.db").stat().st_size == size
