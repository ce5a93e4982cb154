"""Reads settings: arguments before the environment, the environment before the file, the file before the defaults."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from .model import NESTED, PREFIX, Settings
from .places import Place, line_of, place_of
from .problems import BadSettings, in_words

_NAME: Final = re.compile(r"([a-z]\w*)([.\[]\S*?)?: ")


def read(file: Path | None = None, arguments: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of `file` (TOML), of the environment (SLUICEGATE_TABLE__NAME) and of `arguments`, nested as
    the file is; the later ones win.

    Raises BadSettings, which names every fault with its place. Blocks while it reads the file.
    """
    text = _text(file)
    unknown = _unknown_variables(os.environ)

    class Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    try:
        settings = Sources(**(arguments or {}))
    except ValidationError as error:
        faults = [
            in_words(each) + (_outside(each["loc"], arguments or {}) or _inside(file, line_of(text, each["loc"])))
            for each in error.errors(include_url=False)
        ]
        raise BadSettings([*faults, *unknown]) from None
    if unknown:
        raise BadSettings(unknown)
    return settings


def placed(fault: str, file: Path | None = None, arguments: Mapping[str, Any] | None = None) -> str:
    """Return `fault`, which a room has found later on, with the place of the setting whose name it begins with, as
    `read` tells it; without one, as it is. Raises BadSettings if `file` cannot be read. Blocks meanwhile.
    """
    name = _NAME.match(fault)
    if name is None or name[1] not in Settings.model_fields:
        return fault
    dotted, text = fault[: name.end() - 2], _text(file)
    return fault + (
        _outside(tuple(dotted.split(".")), arguments or {}) or _inside(file, line_of(text, place_of(text, dotted)))
    )


def _text(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        text = file.read_text(encoding="utf-8")
        tomllib.loads(text)
    except OSError as error:
        raise BadSettings([f"{file}: cannot be read: {error.strerror}"]) from None
    except ValueError as error:  # of TOML or of UTF-8
        raise BadSettings([f"{file}: is not TOML: {error}"]) from None
    return text


def _outside(place: Place, arguments: Mapping[str, Any]) -> str:
    if _has(arguments, place):
        return " (an argument)"
    for length in range(len(place), 0, -1):
        variable = PREFIX + NESTED.join(str(part) for part in place[:length]).upper()
        if variable in os.environ:
            return f" (in the environment, {variable})"
    return ""


def _inside(file: Path | None, line: int | None) -> str:
    return f" ({file}, line {line})" if line is not None else f" ({file})" if file is not None else ""


def _has(arguments: Mapping[str, Any], place: Place) -> bool:
    found: Any = arguments
    for part in place:
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return True


def _unknown_variables(env: Mapping[str, str]) -> list[str]:
    """The library passes over variables whose table it does not know."""
    tables = {name.upper() for name in Settings.model_fields}
    names = [name for name in env if name.startswith(PREFIX) and NESTED in name]
    return [
        f"{name}: there is no table {name.removeprefix(PREFIX).partition(NESTED)[0].lower()!r} of settings; there are "
        f"{', '.join(Settings.model_fields)} (in the environment)"
        for name in names
        if name.removeprefix(PREFIX).partition(NESTED)[0] not in tables
    ]
