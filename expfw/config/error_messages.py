"""What Hydra, OmegaConf and YAML say of a mistake, in one line that says what to do."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.error import MarkedYAMLError

from expfw.config import other_launchers, recipe_errors
from expfw.config.hydra_source import hydra
from expfw.config.quoting import as_text, as_typed, unread
from expfw.config.unknown_keys import there_already, unknown_key
from expfw.errors import ConfigError, ExpfwError, PluginError, did_you_mean
from expfw.plugins.catalogue import catalogue
from expfw.plugins.kinds import KINDS, SEVERAL

_THEIRS = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
_YES_NO = "true or false"
_WORDS = {"Integer": "a whole number", "Float": "a number", "Boolean": _YES_NO, "bool": _YES_NO, "String": "text"}
_WRONG_VALUE = r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)"
_SPACE = "sweep.space"
_KEY = r"full_key: ([\w.\[\]-]+)"


@contextmanager
def one_line_errors(overrides: Sequence[str], files: Sequence[str] = ()) -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise into an ExpfwError; one of ours inside of theirs is the better text."""
    try:
        yield
    except ConfigError as error:
        if line := recipe_errors.misshapen(overrides):
            raise ConfigError(line) from error
        raise
    except ExpfwError:
        raise
    except (*_THEIRS, ValueError) as error:
        if not isinstance(error, _THEIRS) and not _raised_by_hydra(error):
            raise
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ExpfwError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise _explained(error, overrides, files) from error


def _raised_by_hydra(error: BaseException) -> bool:
    """Some mistakes of the user's, Hydra tells with a bare ValueError."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


def _explained(error: Exception, overrides: Sequence[str], files: Sequence[str]) -> ExpfwError:
    nameless = [word for word in overrides if re.match(r"[+~]*(=|\s*$)", word)]
    if nameless:
        return ConfigError(f"{nameless[0]!r} has no key; expected KEY=VALUE, such as train.epochs=3")
    if isinstance(error, OverrideParseException):
        word = as_typed(error.override, overrides)
        name, _, value = word.partition("=")
        return ConfigError(_no_entries(name, value) if name == _SPACE else unread(word, error))
    text = " ".join(str(part).strip() for part in (error, error.__cause__) if part and str(part).strip())
    key = (re.search(_KEY, text) or [None, ""])[1] or ""
    if line := _several_of_one(overrides):
        return ConfigError(line)

    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        where = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
        return ConfigError(
            f"{where}: this is no YAML ({error.problem}); expected lines like `KEY: VALUE`, mend it there"
        )
    if line := None if isinstance(error, UnicodeDecodeError) else recipe_errors.misshapen(overrides):
        return ConfigError(line)
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"a configuration file is no text in UTF-8 ({text}); look at the one chosen last")
    if absent := re.search(r"Could not (?:find|load) '(hydra/\w+|\w+)/([^']*)'", text):
        return absent_choice(absent[1], absent[2], files)
    if "is not in struct" in text or re.search(r"Key '[^']*' not in '", text):
        full = re.search(r"Could not override '([^']+)'", text)
        return ConfigError(unknown_key(full[1] if full else key, overrides, files))
    if wrong := re.search(_WRONG_VALUE, text, re.DOTALL):
        return ConfigError(f"{key} is {wrong[1]!r}; expected {_WORDS.get(wrong[2], wrong[2])}")
    if several := re.search(r"Cannot convert 'list' to string: '(\[.*\])'", text):
        return ConfigError(f"{key} is {several[1]}; expected text")
    if "is not Optional" in text:
        return ConfigError(f"{key} is null; expected a value")
    if entries := re.search(
        r"merging override (\S+?)=(.*?)\s+Cannot (?:assign \w+ to Dict|merge DictConfig with)", text
    ):
        return ConfigError(_no_entries(entries[1], entries[2]))
    if part := re.search(r"(\w+) is not a subclass of (\w+)\. value: (\S+)", text):
        return ConfigError(f"{key} is {part[3]!r}; expected the options of {part[2]}, such as {key}.OPTION=VALUE")
    if single := re.search(r"override (\S+?)=(\S+) .*is not a ListConfig", text):
        return ConfigError(f"{single[1]} is {single[2]}; expected a list, such as {single[1]}=[{single[2]}]")
    if "read-only config node" in text and key.endswith(".plugin"):
        kind, _, name = key.removesuffix(".plugin").partition(".")
        if name:
            return ConfigError(f"{kind} {name!r} is chosen twice, or its key `plugin` is set; name each {kind} once")
        return ConfigError(f"{key} cannot be set; choose a {kind} with {kind}=NAME")
    if "Config group override must be a string or a list" in text:
        return ConfigError("a group takes the name of a choice, such as model=mlp_keras; `expfw run --help` lists them")
    if ambiguous := re.search(r"Ambiguous value for argument '(.+)'", text):
        return ConfigError(_several_values(as_typed(ambiguous[1], overrides)))
    if primary := re.search(r"Cannot find primary config '([^']+)'", text):
        return ConfigError(
            f"no configuration {primary[1]!r}; expected {primary[1]}.yaml in ./conf or in the --config-dir"
        )
    if multiple := re.search(r"Multiple values for (\w+)", text):
        return ConfigError(_chosen_twice(multiple[1], overrides))
    if there := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return ConfigError(there_already(there[1], overrides, files))
    if line := recipe_errors.of_defaults(text) or _not_taken_out(text) or _not_resolved(key, text):
        return ConfigError(line)
    return ConfigError(re.sub(r"\s+", " ", re.sub(r"(reference_type|object_type)=\S+|Any\]$", "", text)).strip())


def _several_of_one(overrides: Sequence[str]) -> str | None:
    """What to say of `model=[cnn,ols]`."""
    for kind in set(KINDS) - set(SEVERAL):
        for several in filter(None, (re.fullmatch(rf"{kind}=\[(.*,.*)\]", word) for word in overrides)):
            return (
                f"{several[0]} are several, but a run has one {kind}; expected {kind}=NAME, or, to try each: "
                f"expfw sweep {kind}={several[1].replace(' ', '')}"
            )
    return None


def _chosen_twice(group: str, overrides: Sequence[str]) -> str:
    """What to say of `+model=cnn`, and of a file whose defaults choose what is chosen already."""
    if any(word.startswith(f"+{group}=") for word in overrides):
        return f"{group} is in the configuration already; write {group}=NAME, without +"
    return f"{group} is chosen by two files; in the defaults of a recipe write `override /{group}: NAME`"


def _several_values(word: str) -> str:
    """What to say of `name=a,b`."""
    name, _, values = word.partition("=")
    plain = name in KINDS or re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", values)
    text = "" if plain else f"; text with commas is {as_text(name, values)}"
    return (
        f"{word} has several values, and there is place for one here: `expfw sweep` tries each, and with --plan lists "
        f"them; a list is {name}=[{values}]{text}"
    )


def _not_taken_out(text: str) -> str | None:
    """What to say of a `~` that finds nothing."""
    if choice := re.search(r"Could not delete '(\w+)=([^']+)'\. No match", text):
        group, name = choice[1], choice[2]
        one = f"~{group}.{name} takes one out, {group}=[A,B] says all" if group in SEVERAL else f"write {group}=NAME"
        return f"~{group}={name} is of no use here; {one}"
    if value := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{value[1]} takes nothing out, there is no {value[1]!r}; `expfw run --cfg job` shows what there is"
    return None


def _not_resolved(key: str, text: str) -> str | None:
    """What to say of a value in `${...}` that is not there."""
    if variable := re.search(r"Environment variable '([^']+)' not found", text):
        example = f"${{oc.env:{variable[1]},VALUE}}"
        return f"{key} needs the environment variable {variable[1]}, which is not set; set it, or write {example}"
    if other := re.search(r"Interpolation key '([^']+)' not found", text):
        return (
            f"{key} is ${{{other[1]}}}, but there is no {other[1]!r}; expected a whole key, such as ${{train.epochs}}"
        )
    return None


def _no_entries(key: str, value: str) -> str:
    """What to say of one value where several are held, each by a name."""
    if key == _SPACE:
        example = "\"{model: {cnn: {model.dropout: 'interval(0, 0.5)'}}}\""
        return f"{key} is {value}; expected options, with their values, by the choice they go with: {key}={example}"
    return f"{key} is {value}; expected entries, such as {key}={{NAME: VALUE}}"


def absent_choice(group: str, name: str, files: Sequence[str]) -> ExpfwError:
    """What to raise for a choice that no source has."""
    choices = hydra(files).config_loader.get_group_options(group)
    there_are = f"There are: {', '.join(choices) or 'none'}"
    if not name:
        return ConfigError(f"{group}= names nothing; expected {group}=NAME. {there_are}")
    if group in KINDS:
        known = catalogue(tuple(files))
        if not known.has(group, name):
            return PluginError(f"no {group} plugin {name!r}.{did_you_mean(name, choices)} {there_are}")
        try:
            known.get(group, name)
        except PluginError as error:
            return error
    if group == "hydra/launcher" and (line := other_launchers.missing(name)) is not None:
        return ConfigError(line)
    return ConfigError(f"no {group} {name!r}.{did_you_mean(name, choices)} {there_are}")
