"""Settings as text: every key with its default as commented TOML, and as a JSON schema; plain data as TOML.

Generated from the fields of the sections, so that what is documented is what is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import tomlkit
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from watcher.settings.evaluation import TASK_KEYS
from watcher.settings.paths import plain_path
from watcher.settings.schema import Settings

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
    ("alert", "metric"): "loss",
    ("alert", "webhook"): "https://example.org/hook",
    ("alert", "best_link"): "best.pt",
    ("alert", "best_copy"): "best-copy.pt",
    ("alert", "apprise"): "mailto://user:password@example.org",
    ("run", "exclude"): ["old/*"],
    ("average", "last"): 5,
    ("average", "ema"): 0.99,
    ("web", "edit_token"): "choose-16-or-more-characters",
    ("run", "ready_marker"): "{name}.done",
    ("eval", "tokenizer"): "gpt2",
    ("eval", "max_tokens"): 1_000_000,
    ("eval", "token_dtype"): "uint16",
    ("eval", "task"): "hellaswag",
    ("eval", "scoring"): "nanogpt",
    ("eval", "shots"): 0,
    ("eval", "delimiter"): "\nAnswer: ",
    ("eval", "bos"): True,
    ("eval", "max_items"): 500,
    ("suite", "name"): "core",
    ("suite", "data"): "eval_bundle",
    ("suite", "tokenizer"): "tokenizer.json",
    ("suite", "max_items"): 500,
    ("sample", "prompts"): ["Once upon a time"],
    ("sample", "prompts_file"): "prompts.txt",
    ("sample", "temperature"): 0.8,
    ("sample", "top_k"): 200,
    ("sample", "top_p"): 0.95,
    ("sample", "seed"): 1,
    ("sample", "tokenizer"): "gpt2",
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
_OPTIONAL = ("sink", "alert", "suite", "average", "sample")


def full_toml() -> str:
    """configs/full.toml: every section and key. Keys without a default of their own are commented out."""
    lines = [
        "# Every key of ckptwatch.toml with its default and what it means; from `ckptwatch config schema --toml`.",
        "# Only [[run]] dir and [[eval]] data are needed. Relative paths are relative to this file.",
    ]
    for name, section, many in sections():
        keys = [key for key, field in section.model_fields.items() if section_in(field.annotation) is None]
        part = [f"[[{name}]]" if many else f"[{name}]"]
        for key in keys:
            if name != "eval" or key not in TASK_KEYS:
                part += _key_lines(name, key, section.model_fields[key])
        lines += ["", *("# " + line for line in part)] if name in _OPTIONAL else ["", *part]
        if name == "eval":
            lines += ["", *("# " + line for line in _task_lines(section))]
    return "\n".join(lines) + "\n"


def _task_lines(section: type[BaseModel]) -> list[str]:
    """An [[eval]] section for a task: it has keys of its own, and none of those of a token stream."""
    lines = ["[[eval]]", "# A task: its items instead of text or tokens.", 'name = "hellaswag"']
    lines.append('data = ["hellaswag_val.jsonl"]')
    return lines + [line for key in TASK_KEYS for line in _key_lines("eval", key, section.model_fields[key])]


def schema() -> dict[str, Any]:
    """The JSON schema of ckptwatch.toml, for editors."""
    return Settings.model_json_schema()


def as_toml(data: dict[str, Any]) -> str:
    """Plain data as TOML; None and empty top-level lists are left out."""
    return tomlkit.dumps({key: _without_none(value) for key, value in data.items() if value not in (None, [], ())})


def toml_value(value: Any) -> str:
    """One value on one line, as it stands behind `key = `."""
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return tomlkit.item(value if isinstance(value, (bool, int, float)) else str(value)).as_string()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value


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


def path_from(file: Path, base: Path) -> str:
    """A path as a settings file in `base` may give it: relative where it lies below, absolute elsewhere."""
    try:
        return str(Path(plain_path(file)).relative_to(plain_path(base)))
    except ValueError:
        return plain_path(file)
