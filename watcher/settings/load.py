"""From ckptwatch.toml, CKPTWATCH_* and flags to checked settings; every problem is named at once."""

from __future__ import annotations

import glob
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watcher.domain.checkpoint import stored
from watcher.domain.run_name import distinct_run_name
from watcher.domain.set_name import set_name
from watcher.errors import ConfigError
from watcher.settings.environment import settings_from
from watcher.settings.paths import plain_path
from watcher.settings.problems import problem_lines
from watcher.settings.schema import Settings

FILE_MAX_BYTES = 4 << 20
NESTING_MAX = 64


def load_settings(
    file: Path | None,
    overrides: dict[str, Any] | None = None,
    each: dict[str, dict[str, Any]] | None = None,
) -> Settings:
    """Read the file (where given), lay CKPTWATCH_* and then `overrides` over it, and check the whole.

    overrides: nested dict as the TOML would give. each: `run` or `eval` -> keys to set in every such section.
    Raises ConfigError that names every problem.
    """
    data: dict[str, Any] = {}
    if file is not None:
        data = read_toml(file)
        _anchor(data, file.absolute().parent)
    _merge(data, settings_from(os.environ))
    _merge(data, overrides or {})
    for section, keys in (each or {}).items():
        for entry in _entries(data, section):
            entry.update(keys)
    _name_sections(data)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = problem_lines(error)
        raise ConfigError(
            f"{file or 'the settings'}: {len(lines)} problem{'s' * (len(lines) > 1)}\n"
            + "\n".join(f"  {line}" for line in lines),
            hint="ckptwatch config schema shows every key with its default",
        ) from None


def read_toml(file: Path) -> dict[str, Any]:
    """The file's tables. Raises ConfigError."""
    try:
        with open(file, "rb") as reading:
            content = reading.read(FILE_MAX_BYTES + 1)
        if len(content) > FILE_MAX_BYTES:
            raise ConfigError(f"{file} is larger than {FILE_MAX_BYTES >> 20} MiB: it is no settings file")
        data = tomllib.loads(content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {file}",
            hint="ckptwatch init DIR --data FILE writes one; or give `run --dir DIR --data FILE`",
        ) from None
    except RecursionError:
        raise ConfigError(f"{file} is nested too deep to be read") from None
    except (OSError, ValueError) as error:  # TOMLDecodeError, UnicodeDecodeError, an integer of thousands of digits
        raise ConfigError(f"{file} cannot be read as TOML: {error}", hint="ckptwatch config validate") from None
    if _depth(data) > NESTING_MAX:
        raise ConfigError(f"{file} is nested more than {NESTING_MAX} deep")
    return data


def _depth(value: Any) -> int:
    """Nesting of tables and lists, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _anchor(data: dict[str, Any], base: Path) -> None:
    """Relative paths of a file are relative to that file, not to wherever the daemon was started."""

    def anchored(value: Any) -> Any:
        if isinstance(value, list):
            return [anchored(item) for item in value]
        if not isinstance(value, str) or value == "" or "\0" in value:
            return value
        if value.startswith("sqlite:///") and not value.startswith(("sqlite:////", "sqlite:///:", "sqlite:///~")):
            rest = value.removeprefix("sqlite:///")
            return f"sqlite:///{plain_path(base / rest)}" if rest else value
        if "://" in value:
            return value
        expanded = os.path.expanduser(value)  # leaves `~nobody` as it is, which validation refuses
        if expanded.startswith("~"):
            return value
        return str(base / expanded) if glob.has_magic(value) else plain_path(base / expanded)

    for section, keys in (
        ("run", ("dir",)),
        ("eval", ("data",)),
        ("suite", ("data",)),
        ("sample", ("prompts_file",)),
        ("sink", ("path",)),
        ("alert", ("best_link", "best_copy")),
        ("model", ("config", "python_path")),
        ("store", ("url", "state_dir")),
        ("launch", ("python",)),
    ):
        for entry in _entries(data, section):
            for key in keys:
                if key in entry:
                    entry[key] = anchored(entry[key])
    for entry in (*_entries(data, "eval"), *_entries(data, "suite"), *_entries(data, "sample")):
        if isinstance(name := entry.get("tokenizer"), str) and "." in name:
            entry["tokenizer"] = anchored(name)


def _entries(data: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """The tables of a section that stands once or several times; what is no table is left to validation."""
    value = data.get(section)
    return [entry for entry in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(entry, dict)]


def _name_sections(data: dict[str, Any]) -> None:
    """One spelling for a run's folder; a run is named after its folder and a set after its first file, by default; two
    folders never share a name."""
    runs = _entries(data, "run")
    taken = [entry["name"] for entry in runs if isinstance(entry.get("name"), str)]
    for entry in runs:
        if not isinstance(folder := entry.get("dir"), (str, Path)) or str(folder) == "" or str(folder).startswith("~"):
            continue
        entry["dir"] = plain_path(folder)
        if not entry.get("name"):
            entry["name"] = distinct_run_name(printable_name(entry["dir"]), taken)
            taken.append(entry["name"])
    sets = _entries(data, "eval")
    taken = [entry["name"] for entry in sets if isinstance(entry.get("name"), str)]
    for entry in sets:
        given = entry.get("data")
        first = given[0] if isinstance(given, (list, tuple)) and given else given
        if not entry.get("name") and isinstance(first, (str, Path)):
            shots = entry.get("shots")  # 0-shot and few-shot must not look like one curve
            suffix = f"-{shots}shot" if isinstance(shots, int) and shots > 0 else ""
            entry["name"] = set_name(printable_name(str(first)), taken, suffix)
            taken.append(entry["name"])
    for entry in _entries(data, "suite"):
        if not entry.get("name") and isinstance(given := entry.get("data"), (str, Path)):
            entry["name"] = printable_name(os.path.basename(plain_path(given)))


def printable_name(name: str) -> str:
    """A file's name as the name of a section: undecodable bytes and control characters are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in stored(name))


def _merge(under: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _merge(under[key], value)
        else:
            under[key] = value
