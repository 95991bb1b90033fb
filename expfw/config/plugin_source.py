"""Hydra set-up for expfw: config source of plugin options, search path, launcher and sweeper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import AnyNode, DictConfig, OmegaConf

from expfw.api import option_schema
from expfw.api.run_config import RunConfig
from expfw.errors import ConfigError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS

_SEPARATOR = "|"
_HYDRA_GROUPS = {"hydra/launcher": "Launcher", "hydra/sweeper": "Sweeper"}


class PluginSource(ConfigSource):
    """Provides `<kind>/<name>` from the Config classes of plugins; its path lists plugin files (`expfw://a.py|b.py`)."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.files = tuple(file for file in self.path.split(_SEPARATOR) if file)

    @property
    def catalogue(self) -> Catalogue:
        """Catalogue of this process; not an attribute, because Hydra copies sources with their attributes."""
        return get_catalogue(self.files)

    @staticmethod
    def scheme() -> str:
        return "expfw"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in KINDS or config_path in _HYDRA_GROUPS or config_path == "hydra"

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        if group in _HYDRA_GROUPS:
            return name == "expfw"
        if group in KINDS:
            return bool(self.catalogue.find_entries(group, name))
        return group == "" and name == "expfw_root"

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path in KINDS:
            return [] if results_filter == ObjectType.GROUP else self.catalogue.list_names(config_path)
        if config_path in _HYDRA_GROUPS:
            return [] if results_filter == ObjectType.GROUP else ["expfw"]
        return list(KINDS) if config_path == "" and results_filter != ObjectType.CONFIG else []

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        package, node = None, None
        if group in _HYDRA_GROUPS:
            node = OmegaConf.create({"_target_": f"hydra_plugins.expfw.{_HYDRA_GROUPS[group]}"})
        elif group in MULTIPLE_KINDS and self.catalogue.is_disabled(group, name):
            package, node = group, OmegaConf.create({})
        elif group in KINDS:
            entry = self.catalogue.get(group, name)
            plugin = AnyNode(entry.name, flags={"readonly": True})
            package = f"{group}.{entry.name}" if group in MULTIPLE_KINDS else group
            # Without the flag `struct`, Hydra accepts any keys; `build_instance` checks them.
            node = OmegaConf.create({**entry.make_defaults(), "plugin": plugin}, flags={"struct": False})
        elif name == "expfw_root":
            node = OmegaConf.create(option_schema.make_defaults(RunConfig))
            for section in node.values():
                if isinstance(section, DictConfig):
                    OmegaConf.set_struct(section, False)
        if node is None:
            raise ConfigLoadError(f"unknown config {config_path!r}")
        return ConfigResult(provider=self.provider, path=self.full_path(), config=node, header={"package": package})


@cache
def _register_with_hydra() -> None:
    """Registers our source, launcher and sweeper with Hydra.

    They are outside the namespace `hydra_plugins`, which every Hydra application would import. Hydra accepts other
    classes only under a name in that namespace.
    """
    from expfw.config.hydra_sweeper import Launcher, Sweeper

    hydra_classes = Plugins.instance()
    for cls in (PluginSource, Launcher, Sweeper):
        hydra_classes.register(cls)
    hydra_classes.class_name_to_class["hydra_plugins.expfw.Launcher"] = Launcher
    hydra_classes.class_name_to_class["hydra_plugins.expfw.Sweeper"] = Sweeper


def make_hydra(catalogue: Catalogue, config_dir: str | None = None) -> Hydra:
    """Creates a Hydra with this search path: `config_dir`, expfw's conf, `./conf`, the plugins."""
    _register_with_hydra()
    search_path = ConfigSearchPathImpl()
    search_path.append("hydra", "pkg://hydra.conf")
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir} is not a folder")
        search_path.append("command line", f"file://{Path(config_dir).resolve()}")
    search_path.append("main", "pkg://expfw.conf")
    if Path("conf").is_dir():
        search_path.append("working directory", f"file://{Path('conf').resolve()}")
    search_path.append("plugins", "expfw://" + _SEPARATOR.join(catalogue.files))
    search_path.append("schema", "structured://")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2("expfw", search_path)
