"""What every kind of plugin promises, as a test class that a test of the plugin inherits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from expfw.api import option_schema
from expfw.api.contracts import Plugin
from expfw.api.run_config import to_plain
from expfw.errors import ExpfwError
from expfw.plugins.inspection import static_checks
from expfw.testing.bench import Bench
from expfw.testing.failure import fail, fail_if_any


class PluginContract:
    """The checks of all kinds.

    Attributes:
        base: what the class under test must be a subclass of; each contract says it.
        plugin: the class under test. It needs no entry point: one in the test file will do.
        options: options to run it with, `{"units": 8}`, dotted for nested ones; what makes it small and quick.
    """

    base: ClassVar[type[Plugin]] = Plugin
    plugin: ClassVar[type[Plugin]]
    options: ClassVar[Mapping[str, Any]] = {}

    def make_run_overrides(self, bench: Bench) -> list[str]:
        """The overrides of a run with the plugin in it."""
        return bench.select_plugin()

    def get_resume_remedy(self) -> str:
        """What to do where a run with it does not go on exactly."""
        return "keep all that changes in a run where a checkpoint finds it"

    def make_options(self, folder: Path) -> Mapping[str, Any]:
        """The options to run it with; override it where they name files, and write these into `folder`."""
        return self.options

    @classmethod
    def needs_several_processors(cls) -> bool:
        """Whether its runs want several logical processors in this process."""
        return True

    def test_class(self, expfw_bench: Bench) -> None:
        """It can be imported, is of its kind, has a docstring, and is made with (config, name)."""
        fail_if_any(static_checks.check_class(expfw_bench.entry))

    def test_options(self, expfw_bench: Bench) -> None:
        """Every option has a type that a configuration can hold, a default that fits it, and a help text."""
        fail_if_any(static_checks.check_options(expfw_bench.entry))

    def test_methods(self, expfw_bench: Bench) -> None:
        """The methods of its kind are there, with the arguments that the contract has."""
        fail_if_any(static_checks.check_methods(expfw_bench.entry))

    def test_hooks(self, expfw_bench: Bench) -> None:
        """Its hooks exist, are marked, take arguments that these have, and are none that go away."""
        fail_if_any(static_checks.check_hooks(expfw_bench.entry))

    def test_import(self, expfw_bench: Bench) -> None:
        """Importing it takes less than half a second, brings no framework and prints nothing."""
        fail_if_any(static_checks.check_import(expfw_bench.entry))

    def test_options_come_back_from_hydra(self, expfw_bench: Bench) -> None:
        """Options go through Hydra, into the record of a run and back, and are the same in type and value."""
        bench, cls = expfw_bench, self.plugin
        node = bench.get_frozen_options()
        for name, value in self._get_expected_options(bench).items():
            if node[name] != value:
                fail(
                    f"{bench.plugin_label}: option {name!r} is {value!r} in Config and {node[name]!r} behind Hydra",
                    "let Config only check values in __post_init__, and change none",
                )
        read_back = to_plain(option_schema.build_instance(cls.Config, json.loads(json.dumps(node)), bench.options_key))
        for name, value in read_back.items():
            if value != node[name]:
                fail(
                    f"{bench.plugin_label}: option {name!r} is {node[name]!r}, and {value!r} once recorded and "
                    "read again",
                    "let Config only check values in __post_init__, and compute what follows from them elsewhere",
                )

    def _get_expected_options(self, bench: Bench) -> dict[str, Any]:
        """What the test sets, and the defaults of the rest."""
        partly_set_names = {name.partition(".")[0] for name in bench.options if "." in name}
        defaults = {
            option.name: option.default
            for option in option_schema.list_options(self.plugin.Config)
            if not option.required
        }
        return {
            name: to_plain(value)
            for name, value in {**defaults, **bench.options}.items()
            if "." not in name and name not in partly_set_names
        }

    def test_bad_options_are_one_line(self, expfw_bench: Bench) -> None:
        """A bad value is either of use or refused in one line that names the option, never a traceback."""
        bench = expfw_bench
        problems = []
        for name, value in list_bad_values(self.plugin.Config):
            override = f"{bench.options_key}.{name}={value!r}"
            try:
                bench.try_options({name: value})
            except ExpfwError as error:
                if name not in str(error) and str(value) not in str(error):
                    problems.append(f"{override} is refused, but the error does not say what is wrong: {error}")
            except Exception as error:
                problems.append(f"{override} ends in {type(error).__name__}: {error}".splitlines()[0])
        example_check = 'raise ValueError(f"units is {self.units}; expected 1 or more")'
        fail_if_any(
            problems,
            f"check it in Config.__post_init__ ({example_check}), or raise expfw.ConfigError where it is used; "
            "name the option",
        )


_BAD_VALUES: dict[str, list[Any]] = {
    "int": [-1],
    "float": [-1.0, float("nan")],
    "str": ["no such thing"],
    "list of int": [[-1]],
    "list of float": [[-1.0]],
    "list of str": [["no such thing"]],
}


def list_bad_values(options: type) -> Iterator[tuple[str, Any]]:
    """Each option of a `Config` that is a number, a text or a list of such, with bad values for it.

    What is of the wrong type, or none of the choices, expfw refuses by itself; nested dataclasses check theirs.
    """
    for option in option_schema.list_options(options):
        if "." not in option.name:
            for value in _BAD_VALUES.get(option.type.removesuffix(" or null"), []):
                yield option.name, value
