"""Composing with Hydra: the plugins' options as a config source, the search path, errors in one line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from expfw import schema
from expfw.config import freeze
from expfw.errors import ConfigError, ExpfwError, PluginError, did_you_mean
from expfw.plugins import KINDS, SEVERAL, Catalogue, catalogue
from expfw.settings import Root

if TYPE_CHECKING:
    from expfw.settings import RunConfig

_SEPARATOR = "|"
_HYDRA_GROUPS = {"hydra/launcher": "Launcher", "hydra/sweeper": "Sweeper"}


class PluginSource(ConfigSource):
    """Serves `<kind>/<name>` from the plugins' Config classes; the path holds the plugin files (`expfw://a.py|b.py`)."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.catalogue = catalogue(tuple(file for file in self.path.split(_SEPARATOR) if file))

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
        return (group in KINDS and self.catalogue.has(group, name)) or (group == "" and name == "expfw_root")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path in KINDS:
            return [] if results_filter == ObjectType.GROUP else self.catalogue.names(config_path)
        if config_path in _HYDRA_GROUPS:
            return [] if results_filter == ObjectType.GROUP else ["expfw"]
        return list(KINDS) if config_path == "" and results_filter != ObjectType.CONFIG else []

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        package, node = None, None
        if group in _HYDRA_GROUPS:
            node = OmegaConf.create({"_target_": f"hydra_plugins.expfw.{_HYDRA_GROUPS[group]}"})
        elif group in KINDS:
            found = self.catalogue.get(group, name)
            node = OmegaConf.structured(schema.omegaconf_class(found.load().Config, {"plugin": found.name}))
            node._get_node("plugin")._set_flag("readonly", True)
            package = f"{group}.{found.name}" if group in SEVERAL else group
        elif name == "expfw_root":
            node = OmegaConf.structured(schema.omegaconf_class(Root))
        if node is None:
            raise ConfigLoadError(f"no config {config_path!r}")
        return ConfigResult(provider=self.provider, path=self.full_path(), config=node, header={"package": package})


@cache
def _register() -> None:
    """Makes Hydra know our source, launcher and sweeper.

    They live outside the namespace `hydra_plugins`, which every Hydra application would import; Hydra takes classes
    from elsewhere only under a name that says so.
    """
    from expfw.launcher import Launcher
    from expfw.sweeper import Sweeper

    known = Plugins.instance()
    for cls in (PluginSource, Launcher, Sweeper):
        known.register(cls)
    known.class_name_to_class["hydra_plugins.expfw.Launcher"] = Launcher
    known.class_name_to_class["hydra_plugins.expfw.Sweeper"] = Sweeper


def hydra(files: Sequence[str] = (), config_dir: str | None = None) -> Hydra:
    """A Hydra whose search path is: `config_dir`, expfw's conf, `./conf`, the plugins."""
    _register()
    path = ConfigSearchPathImpl()
    path.append("hydra", "pkg://hydra.conf")
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir} is not a folder")
        path.append("command line", f"file://{Path(config_dir).resolve()}")
    path.append("main", "pkg://expfw.conf")
    if Path("conf").is_dir():
        path.append("working directory", f"file://{Path('conf').resolve()}")
    path.append("plugins", "expfw://" + _SEPARATOR.join(files))
    path.append("schema", "structured://")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2("expfw", path)


def compose(
    overrides: Sequence[str], files: Sequence[str] = (), config_name: str = "config", config_dir: str | None = None
) -> RunConfig:
    """The frozen configuration that these overrides make.

    Args:
        overrides: as on the command line, `["model=mlp_keras", "train.epochs=3"]`.
        files: plain Python files with plugins.

    Raises:
        ConfigError, PluginError: see `freeze`; in one line.
    """
    with one_line_errors(overrides, files):
        composed = hydra(files, config_dir).compose_config(config_name, list(overrides), RunMode.RUN)
        return frozen(composed, catalogue(tuple(files)))


def frozen(composed: DictConfig, plugins: Catalogue) -> RunConfig:
    """A composed config, resolved and frozen, without Hydra's own node."""
    with flag_override(composed, ["struct", "readonly"], [False, False]):
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    values = OmegaConf.to_container(own, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    return freeze({str(key): value for key, value in values.items()}, plugins)


@contextmanager
def one_line_errors(overrides: Sequence[str], files: Sequence[str] = ()) -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise into a ConfigError of one line that says what to do."""
    try:
        yield
    except ExpfwError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if not isinstance(error, (HydraException, OmegaConfBaseException)) and not _raised_by_hydra(error):
            raise
        cause: BaseException | None = error
        while cause is not None:  # Hydra wraps; an error of ours is the better text
            if isinstance(cause, ExpfwError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _explained(error, overrides, files) from error


def _raised_by_hydra(error: BaseException) -> bool:
    """Some mistakes of the user's, Hydra tells with a bare ValueError."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


def _explained(error: Exception, overrides: Sequence[str], files: Sequence[str]) -> ExpfwError:
    text = " ".join(str(part).strip() for part in (error, error.__cause__) if part and str(part).strip())
    absent = re.search(r"Could not find '(\w+)/([^']+)'", text) or re.search(r"Could not load '(\w+)/([^']+)'", text)
    if absent and absent[1] in KINDS:
        try:
            catalogue(tuple(files)).get(absent[1], absent[2])
        except PluginError as better:
            return better
    key = re.search(r"Could not override '([^']+)'|full_key: (\S+)", text)
    if "is not in struct" in text or "not in '" in text:
        full = (key and (key[1] or key[2])) or text
        return ConfigError(_unknown_key(full, overrides, files))
    wrong = re.search(
        r"Value '(.*?)' of type '\w+' (?:could not be converted to|is not a valid) (\w+).*full_key: ([\w.]+)",
        text,
        re.DOTALL,
    )
    if wrong:
        expected = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}.get(
            wrong[2], wrong[2]
        )
        return ConfigError(f"{wrong[3]} is {wrong[1]!r}; expected {expected}")
    if "read-only config node" in text and key and key[2].endswith(".plugin"):
        kind = key[2].partition(".")[0]
        return ConfigError(f"{key[2]} cannot be set; choose a {kind} with {kind}=NAME")
    if "Ambiguous value for argument" in text:
        return ConfigError(
            re.sub(r"\s+", " ", text).replace("add --multirun to your command line", "use `expfw sweep`")
        )
    text = re.sub(r"\s*(reference_type|object_type)=\S+", "", text)
    return ConfigError(re.sub(r"\s+", " ", text).strip())


def _unknown_key(key: str, overrides: Sequence[str], files: Sequence[str]) -> str:
    """What to say of a key that does not exist: what there is beside it."""
    parent, _, name = key.rpartition(".")
    try:
        choices = [o for o in overrides if o.split("=")[0].lstrip("+~").split("@")[0] in KINDS]
        whole: Any = hydra(files).compose_config("config", choices, RunMode.MULTIRUN)
        while parent and OmegaConf.select(whole, parent) is None:
            parent, _, name = parent.rpartition(".")
        node = OmegaConf.select(whole, parent) if parent else whole
        known = sorted(str(k) for k in node if k not in ("hydra", "plugin"))
    except (HydraException, OmegaConfBaseException, ExpfwError, TypeError):
        return f"no option {key!r}; `expfw run --cfg job` shows all there are"
    plugin = f" of {parent} plugin {node['plugin']!r}" if isinstance(node, DictConfig) and "plugin" in node else ""
    return f"no option {key!r}{plugin}.{did_you_mean(name, known)} Options here: {', '.join(known)}"
