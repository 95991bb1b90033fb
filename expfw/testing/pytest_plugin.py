"""The pytest plugin: fixtures of the contracts. Imports only pytest until a fixture is used."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from expfw.testing.bench import Bench

PROCESSORS = 4


@pytest.fixture(scope="session")
def expfw_processors() -> None:
    """Four logical processors in this process, for runs on several replicas.

    TensorFlow accepts this only before its first use; afterwards, such runs use other processes.
    """
    from expfw.errors import ConfigError
    from expfw.plugins.catalogue import get_catalogue

    entry = get_catalogue().get("backend", "mirrored")
    backend: Any = entry.instantiate(entry.make_config({"cpus": PROCESSORS}, "backend"))
    with suppress(ConfigError):
        backend.devices(run=None)


@pytest.fixture(scope="class")
def expfw_bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Bench of the plugin of a contract, with a separate folder; all checks of a class share its runs."""
    from expfw.errors import ExpfwError
    from expfw.testing.bench import Bench, fail

    contract = request.cls
    plugin = getattr(contract, "plugin", None)
    if not (isinstance(plugin, type) and issubclass(plugin, contract.base)):
        problem = f"{contract.__name__} has plugin = {plugin!r}; expected a subclass of expfw.{contract.base.__name__}"
        fail(problem, "set `plugin` to your class, and use the contract of its kind")
    if contract.base.kind != "tracker" and not getattr(plugin, "on_gpus", False):
        request.getfixturevalue("expfw_processors")
    try:
        return Bench(contract, tmp_path_factory.mktemp(plugin.__name__))
    except ExpfwError as error:
        fail(f"{plugin.__name__} cannot be tested: {error}", "see docs/authors/plugin-api.md, Testing a plugin")
