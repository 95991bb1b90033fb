"""Contract of all plugins: base class of the contracts for each kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from expfw.api import option_schema
from expfw.api.contracts import Plugin
from expfw.api.run_config import to_plain
from expfw.errors import ExpfwError
from expfw.plugins import inspection
from expfw.plugins.validation import Problem
from expfw.testing.bench import Bench

_BAD_VALUES: dict[str, list[Any]] = {
    "int": [-1],
    "float": [-1.0, float("nan")],
    "str": ["no such value"],
    "list of int": [[-1]],
    "list of float": [[-1.0]],
    "list of str": [["no such value"]],
}
"""Bad values of each type; expfw itself rejects values of the wrong type and unknown choices."""


class PluginContract:
    """The checks of plugins of all kinds.

    Attributes:
        base: base class of the plugins; set by each contract.
        plugin: class under test. It does not need an entry point and may be defined in the test file.
        options: options for the checks, such as `{"units": 8}`, with dotted names for nested ones; choose small values.
    """

    base: ClassVar[type[Plugin]] = Plugin
    plugin: ClassVar[type[Plugin]]
    options: ClassVar[Mapping[str, Any]] = {}

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """Returns the overrides of a run with the plugin."""
        return bench.select_plugin()

    def get_resume_remedy(self) -> str:
        """Returns advice for a plugin if a resumed run is not bit-identical."""
        return "store all state that changes during a run in the checkpoint"

    def make_options(self, folder: Path) -> Mapping[str, Any]:
        """Returns the options for the checks. Override it if options name files, and write the files to `folder`."""
        return self.options

    def test_class(self, expfw_bench: Bench) -> None:
        """The class can be imported, extends its kind, has a docstring and can be created with (config, name)."""
        _check_statically(expfw_bench, "class")

    def test_options(self, expfw_bench: Bench) -> None:
        """Every option has a supported type, a default of that type and a help text."""
        _check_statically(expfw_bench, "options")

    def test_methods(self, expfw_bench: Bench) -> None:
        """The required methods exist and have the arguments of the contract."""
        _check_statically(expfw_bench, "methods")

    def test_hooks(self, expfw_bench: Bench) -> None:
        """The hooks exist, are marked, have valid arguments and are not deprecated."""
        _check_statically(expfw_bench, "hooks")

    def test_import(self, expfw_bench: Bench) -> None:
        """The import takes less than half a second, imports no framework and prints nothing."""
        (report,) = inspection.inspect_all([expfw_bench.entry])
        problems = [Problem(**values) for values in report["problems"]]
        expfw_bench.fail_if_any(problem for problem in problems if problem.check == "import")

    def test_options_round_trip_through_hydra(self, expfw_bench: Bench) -> None:
        """Options keep type and value through Hydra, and when they are recorded and read again."""
        bench, config_class = expfw_bench, self.plugin.Config
        node = bench.get_frozen_options()
        defaults = {o.name: o.default for o in option_schema.list_options(config_class) if not o.required}
        partly_set_names = {name.partition(".")[0] for name in bench.options if "." in name}
        for name, value in {**defaults, **bench.options}.items():
            if "." not in name and name not in partly_set_names and node[name] != to_plain(value):
                bench.fail(
                    f"option {name!r} is {to_plain(value)!r} in Config and {node[name]!r} after Hydra composed it",
                    "check values in Config.__post_init__ without changing them",
                )
        recorded_node = json.loads(json.dumps(node))
        read_back = to_plain(option_schema.build_instance(config_class, recorded_node, bench.options_key))
        for name, value in read_back.items():
            if value != node[name]:
                bench.fail(
                    f"option {name!r} is {node[name]!r}, but {value!r} after it was recorded and read again",
                    "check values in Config.__post_init__ without changing them, and compute derived values elsewhere",
                )

    def test_bad_options_raise_a_one_line_error(self, expfw_bench: Bench) -> None:
        """A bad value either works or raises a one-line error that names the option."""
        bench = expfw_bench
        options = [o for o in option_schema.list_options(self.plugin.Config) if "." not in o.name]
        bad_values = [
            (o.name, value) for o in options for value in _BAD_VALUES.get(o.type.removesuffix(" or null"), [])
        ]
        problems = []
        for name, value in bad_values:
            override = f"{bench.options_key}.{name}={value!r}"
            try:
                bench.try_options({name: value})
            except ExpfwError as error:
                if name not in str(error) and str(value) not in str(error):
                    problems.append(f"{override} is rejected, but the error does not name the option: {error}")
            except Exception as error:
                problems.append(f"{override} raises {type(error).__name__}: {error}".splitlines()[0])
        bench.fail_if_any(
            problems,
            "declare bounds (expfw.option(32, at_least=1)), raise ValueError in Config.__post_init__, or raise "
            "expfw.ConfigError when the value is used; name the option",
        )


def _check_statically(bench: Bench, check: str) -> None:
    bench.fail_if_any(problem for problem in inspection.find_problems(bench.entry) if problem.check == check)
