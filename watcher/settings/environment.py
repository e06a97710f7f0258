"""CKPTWATCH_* variables as settings; a variable that sets nothing is an error, with the nearest valid name."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from watcher.errors import ConfigError
from watcher.settings.names import PREFIX
from watcher.settings.schema import Settings

Key = tuple[tuple[str, ...], Any, bool]  # its path in the settings, its type, does it name a file
#: Set by ckptwatch for its jobs (the launch's mark) or by its tests, never by a person.
INTERNAL = frozenset({"CKPTWATCH_LAUNCH", "CKPTWATCH_FAILPOINT", "CKPTWATCH_WORKER_FAILPOINT"})
#: Kubernetes sets these in every pod beside a Service whose name begins with `ckptwatch`.
_KUBERNETES = re.compile(r"CKPTWATCH_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*", re.DOTALL)


def settings_from(environment: Mapping[str, str]) -> dict[str, Any]:
    """Nested as the TOML would give it. Raises ConfigError that names every variable with a problem."""
    keys = dict(_variables())
    out: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in INTERNAL or _is_kubernetes(name, value):
            continue
        if name not in keys:
            near = difflib.get_close_matches(name, keys, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else "; unset it"
            problems.append(f"  {name} sets nothing{hint}")
        elif value == "":
            problems.append(f"  {name} is empty: unset it, or give a value")
        else:
            *sections, key = keys[name][0]
            table = out
            for section in sections:
                table = table.setdefault(section, {})
            table[key] = _parsed(value, *keys[name][1:])
    if problems:
        raise ConfigError("environment variables:\n" + "\n".join(problems), hint="env | grep ^CKPTWATCH_")
    return out


def _variables() -> Iterator[tuple[str, Key]]:
    """Every key of a section that stands once, by its variable."""
    for alias, key in (("DB", "url"), ("STATE_DIR", "state_dir")):
        yield PREFIX + alias, (("store", key), str, True)
    yield from _keys_of(Settings, ())


def _keys_of(section: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, Key]]:
    for key, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys_of(inner, (*path, key))
        elif path:
            is_path = key in getattr(section, "PATHS", ())
            yield PREFIX + "_".join((*path, key)).upper(), ((*path, key), inner, is_path)


def _parsed(value: str, annotation: Any, is_path: bool) -> Any:
    many = str(annotation).startswith("tuple")
    parts = [part.strip() for part in value.split(",")] if many else [value]
    if is_path or Path in get_args(annotation):
        parts = [os.path.expanduser(part) for part in parts]
    return parts if many else _number(parts[0], annotation)


def _number(text: str, annotation: Any) -> Any:
    """The text as the key's type; as it is where it is none, which validation answers."""
    kinds = {annotation, *get_args(annotation)}
    if bool in kinds:
        return {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False,
                "off": False}.get(text.lower(), text)  # fmt: skip
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _is_kubernetes(name: str, value: str) -> bool:
    return bool(_KUBERNETES.fullmatch(name) or (name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value)))
