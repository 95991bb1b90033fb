"""MLflow's tables are there as a whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import mlflow
import pytest

from expfw_mlflow.store.schema_setup import make_tables

KILLED = """
import os, sys
from alembic import op
from expfw_mlflow.store.schema_setup import make_tables

create, left = op.create_table, 5

def killed(*arguments, **options):
    global left
    left -= 1
    return create(*arguments, **options) if left else os.kill(os.getpid(), 9)

op.create_table = killed
make_tables(sys.argv[1])
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_makes_them_leaves_nothing_that_cannot_be_used(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run([sys.executable, "-c", KILLED, uri], capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    assert "mlflow.db" not in os.listdir(tmp_path)
    make_tables(uri)
    assert os.listdir(tmp_path) == ["mlflow.db"]
    assert [one.name for one in mlflow.MlflowClient(uri).search_experiments()] == ["Default"]
    size = (tmp_path / "mlflow.db").stat().st_size
    make_tables(uri)  # it is there
    assert (tmp_path / "mlflow.db").stat().st_size == size
