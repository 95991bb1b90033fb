"""Hydra set-up for expfw: config source of plugin options, and search path."""

from __future__ import annotations

from pathlib import Path

# Hydra's public functions take the search path from a decorated main function.
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import AnyNode, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from expfw.api import option_schema
from expfw.api.run_config import RunConfig
from expfw.errors import ConfigError
from expfw.plugins.catalogue import Catalogue, get_catalogue
from expfw.plugins.kinds import KINDS, MULTIPLE_KINDS
from expfw.system.yaml_files import check_yaml

OWN_LAUNCHER = "expfw"
"""Stands for the class that Hydra would create; trials on this machine need no launcher of Hydra."""
_SEPARATOR = "|"
_HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")


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
        return config_path in (*KINDS, *_HYDRA_GROUPS, "hydra")

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        if group in _HYDRA_GROUPS:
            return name == "expfw"
        if group in KINDS:
            return bool(self.catalogue.find_entries(group, name))
        return group == "" and name == "expfw_root"

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else list(KINDS)
        if config_path in KINDS and results_filter != ObjectType.GROUP:
            return self.catalogue.list_names(config_path)
        return ["expfw"] if config_path in _HYDRA_GROUPS and results_filter != ObjectType.GROUP else []

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        package = None
        if group in _HYDRA_GROUPS:
            node = OmegaConf.create({"_target_": OWN_LAUNCHER})
        elif group in MULTIPLE_KINDS and self.catalogue.is_disabled(group, name):
            package, node = group, OmegaConf.create({})
        elif group in KINDS:
            entry = self.catalogue.get(group, name)
            plugin = AnyNode(entry.name, flags={"readonly": True})
            package = f"{group}.{entry.name}" if group in MULTIPLE_KINDS else group
            # Without the flag `struct`, Hydra accepts any keys; `build_instance` checks them.
            node = OmegaConf.create({**entry.make_defaults(), "plugin": plugin}, flags={"struct": False})
        else:
            node = OmegaConf.create(option_schema.make_defaults(RunConfig))
            for section in node.values():
                if isinstance(section, DictConfig):
                    OmegaConf.set_struct(section, False)
        return ConfigResult(provider=self.provider, path=self.full_path(), config=node, header={"package": package})


class _InsideSource(ConfigSource):
    """A source without the files outside of its folder: they could contain options of Hydra, which run programs."""

    def is_config(self, config_path: str) -> bool:
        return ".." not in config_path.split("/") and super().is_config(config_path)


class PackageSource(_InsideSource, ImportlibResourcesConfigSource):
    """The configuration files of a package."""


class CheckedFileSource(_InsideSource, FileConfigSource):
    """A folder of configuration files, each of which is checked before Hydra reads it."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        check_yaml(path)
        try:
            return super().load_config(config_path)
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError):
            raise  # explained by `one_line_errors`
        except (ValueError, RecursionError) as error:  # such as a number of 5,000 digits
            raise ConfigError(f"cannot read {path}: {error}; expected lines such as `KEY: VALUE`") from error


def make_hydra(catalogue: Catalogue, config_dir: str | None = None) -> Hydra:
    """Creates a Hydra with this search path: `config_dir`, expfw's conf, `./conf`, the plugins."""
    Plugins.instance().register(PluginSource)  # Hydra finds only plugins in `hydra_plugins`, for all applications
    # `register` does not replace a source.
    SourcesRegistry.instance().types |= {"file": CheckedFileSource, "pkg": PackageSource}
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
