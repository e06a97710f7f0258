"""Settings as text: every key with its default as commented TOML, as a JSON schema, and as in force, secrets masked.

Generated from the fields of watcher/settings/schema.py, so that what is documented is what is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from watcher.settings.schema import Settings

MASK = "***"
_SECRET_KEY = re.compile(r"token|secret|password|api_?key", re.IGNORECASE)
#: Values of these keys may be an address that is itself the secret.
_SECRET_ADDRESSES = ("webhook", "apprise")
#: What the full example says where a key has no default.
_EXAMPLES = {
    ("run", "dir"): "checkpoints",
    ("run", "name"): "my-run",
    ("eval", "data"): ["val.npy"],
    ("eval", "name"): "val",
    ("sink", "kind"): "jsonl",
    ("sink", "path"): "results.jsonl",
    ("alert", "on"): ["best", "nonfinite"],
    ("alert", "command"): ["notify-send", "ckptwatch"],
    ("alert", "eval_set"): "val",
    ("alert", "webhook"): "https://example.org/hook",
    ("alert", "apprise"): "mailto://user:password@example.org",
    ("run", "exclude"): ["old/*"],
    ("run", "ready_marker"): "{name}.done",
    ("eval", "tokenizer"): "gpt2",
    ("eval", "max_tokens"): 1_000_000,
    ("eval", "token_dtype"): "uint16",
    ("model", "factory"): "mymodel:build",
    ("model", "config"): "model.json",
    ("model", "state"): "ema",
    ("model", "python_path"): ["src"],
    ("launch", "devices"): ["1"],
    ("launch", "threads"): 4,
    ("launch", "env"): ["MY_VARIABLE"],
    ("launch", "python"): "/opt/train/bin/python",
    ("launch.slurm", "partition"): "gpu",
    ("launch.slurm", "account"): "lab",
    ("launch.slurm", "qos"): "low",
    ("launch.slurm", "time"): "00:30:00",
    ("launch.slurm", "gpus_per_node"): 1,
    ("launch.slurm", "extra"): ["--mem=32G"],
    ("launch.slurm", "setup"): ["module load cuda"],
    ("store", "state_dir"): "ckptwatch.state",
    ("web", "allowed_hosts"): ["box.lan"],
    ("sink", "name"): "jsonl",
    ("sink", "url"): "sqlite:///mlflow.db",
    ("sink", "project"): "my-project",
    ("sink", "entity"): "my-team",
}
#: Sections that do something as soon as they are there: shown, but commented out.
_OPTIONAL = ("sink", "alert")


def full_toml() -> str:
    """configs/full.toml: every section and key. Keys without a default of their own are commented out."""
    lines = [
        "# Every key of ckptwatch.toml with its default and what it means; from `ckptwatch config schema --toml`.",
        "# Only [[run]] dir and [[eval]] data are needed. Relative paths are relative to this file.",
    ]
    for name, section, many in sections():
        part = [f"[[{name}]]" if many else f"[{name}]"]
        for key, field in section.model_fields.items():
            if section_in(field.annotation) is None:  # else a table of its own below
                part += _key_lines(name, key, field)
        lines += ["", *("# " + line for line in part)] if name in _OPTIONAL else ["", *part]
    return "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of ckptwatch.toml, for editors."""
    return Settings.model_json_schema()


def shown(settings: Settings) -> dict[str, Any]:
    """Settings as plain data for a person, with passwords, tokens and secret addresses masked."""
    return _masked(settings.model_dump(mode="json"))


def as_toml(data: dict[str, Any]) -> str:
    """Plain data as TOML; None is left out (TOML has no such value)."""
    lines: list[str] = []
    _write_table(lines, "", data)
    return "\n".join(lines).strip("\n") + "\n"


def toml_value(value: Any) -> str:
    """One value. Text is written as JSON does it, which TOML's basic strings understand."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{_toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    if isinstance(value, Enum):
        return toml_value(value.value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def sections() -> Iterator[tuple[str, type[BaseModel], bool]]:
    """(name, class, may stand several times) of every section of the file, nested tables after their parent."""
    for name, field in Settings.model_fields.items():
        section = section_in(field.annotation)
        assert section is not None  # every top-level key of the file is a section
        yield name, section, str(field.annotation).startswith("tuple")
        for inner, inner_field in section.model_fields.items():
            deeper = section_in(inner_field.annotation)
            if deeper is not None:
                yield f"{name}.{inner}", deeper, False


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds; None for a plain value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _key_lines(section: str, key: str, field: FieldInfo) -> list[str]:
    comment = f"# {field.description}" if field.description else "#"
    choices = choices_of(field.annotation)
    unsaid = [choice for choice in choices if not re.search(rf"\b{choice}\b", field.description or "")]
    if unsaid:
        also = {int: "a whole number", float: "a number"}
        free = [also[kind] for kind in get_args(field.annotation) if kind in also]
        comment += f" One of: {', '.join([*choices, *free])}."
    default = field.get_default(call_default_factory=True, validated_data={})
    example = _EXAMPLES.get((section, key))
    if default is PydanticUndefined:
        return [comment, f"{key} = {toml_value(example)}"]
    if default is None or default in ((), ""):
        return [comment, f"# {key} = {toml_value(_sample(field.annotation) if example is None else example)}"]
    return [comment, f"{key} = {toml_value(default)}"]


def choices_of(annotation: Any) -> list[str]:
    """The words a key may have; empty where it is free."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for inner in get_args(annotation) for choice in choices_of(inner)]


def _sample(annotation: Any) -> Any:
    """A value of the right kind for a key that has no default."""
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind not in (NoneType, Ellipsis)]
    first = kinds[0]
    if str(annotation).startswith("tuple"):
        return []
    if choices := choices_of(annotation):
        return choices[0]
    if first is int:
        return 1024
    if first is float:
        return 1.0
    return ""


def _masked(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _masked(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, key) for item in value]
    if isinstance(value, str) and value:
        if key in _SECRET_ADDRESSES or (_SECRET_KEY.search(key) and key not in ("tokenizer", "token_dtype")):
            return MASK
        return without_password(value)
    return value


def without_password(text: str) -> str:
    """An URL with its password masked; anything else as it is."""
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    if parts.password is None:
        return text
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{MASK}@{address}"))


def _write_table(lines: list[str], name: str, table: dict[str, Any]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if value is None:
            continue
        if isinstance(value, dict) or (isinstance(value, (list, tuple)) and value and isinstance(value[0], dict)):
            later.append((key, value))
        elif not (name == "" and value in ([], ())):
            lines.append(f"{_toml_key(key)} = {toml_value(value)}")
    for key, value in later:
        whole = f"{name}.{_toml_key(key)}" if name else _toml_key(key)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            lines += ["", f"[[{whole}]]" if isinstance(value, (list, tuple)) else f"[{whole}]"]
            _write_table(lines, whole, one)


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def path_from(file: Path, base: Path) -> str:
    """A path as a settings file in `base` may give it: relative where it lies below, absolute elsewhere."""
    try:
        return str(file.absolute().relative_to(base.absolute()))
    except ValueError:
        return str(file.absolute())
