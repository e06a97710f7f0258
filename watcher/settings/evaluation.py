"""The sections `[model]`, `[[eval]]` and `[[suite]]`: what is evaluated, and on what."""

from __future__ import annotations

import math
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from evalcore.tasks.spec import SCORINGS, TASKS, TOKENS
from watcher.settings.section import INT64_MAX, Section

SEQ_LEN_AUTO_MAX = 1024  # `seq_len = "auto"` is the model's context length, at most this
NESTING_MAX = 32
#: Keys of `[[eval]]` that describe a token stream, and those that describe a task: no set has both.
STREAM_KEYS = ("stride", "max_tokens", "token_dtype", "text_field", "format")
TASK_KEYS = ("task", "scoring", "shots", "delimiter", "bos", "max_items")
Scoring = Literal["lm-eval", "nanogpt", "core"]
assert get_args(Scoring) == SCORINGS


class ModelSettings(Section):
    """`[model]`: how to build the model where the checkpoint does not describe it."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"config", "python_path"})

    factory: str | None = Field(None, description="`package.module:function`, called as factory(config, state).")
    config: Path | dict[str, Any] | None = Field(
        None, description="A JSON or TOML file, or a table; completes and corrects the checkpoint's own."
    )
    state: str | None = Field(None, description="Which state dict of the file to evaluate: `model`, `ema`, ...")
    python_path: tuple[Path, ...] = Field((), description="Folders that hold the factory's code.")

    @field_validator("config", mode="before")
    @classmethod
    def _holds_plain_values(cls, value: Any) -> Any:
        if isinstance(value, dict) and (problem := config_problem(value)) is not None:
            raise ValueError(problem)
        return value


class EvalSettings(Section):
    """`[[eval]]`: one named validation set: a token stream, or the items of a task."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"data", "tokenizer"})

    name: str = Field(
        "", description="Name in the results; by default the stem of the file, or the constant part of the glob."
    )
    data: tuple[str, ...] = Field(
        description="Files or globs: .txt, .jsonl, .parquet, .npy, .bin; joined in this order."
    )
    format: Literal["auto", "text", "jsonl", "json", "parquet", "arrow", "npy", "bin", "raw"] = Field(
        "auto", description="Format of the files."
    )
    tokenizer: str | None = Field(
        None, description="tiktoken name, `bytes`, a .tiktoken or tokenizer.json file; `auto`: the folder's own."
    )
    seq_len: int | Literal["auto"] = Field(
        "auto", description="Tokens per window; `auto` is the model's context length, at most 1024."
    )
    stride: int | None = Field(
        None, ge=1, le=INT64_MAX, description="Tokens between windows, at most seq_len; seq_len by default."
    )
    max_tokens: int | None = Field(None, ge=2, le=INT64_MAX, description="Use only the first N tokens.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto`: float32 on CPU, bfloat16 autocast on CUDA."
    )
    text_field: str = Field("text", description="Field of JSON documents that holds the text.")
    token_dtype: Literal["uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"] | None = Field(
        None, description="Type of the ids in token files without a header; `.bin` is uint16 by default."
    )
    task: str | None = Field(
        None, description=f"The files hold items of this task; recognised by default. One of: {', '.join(TASKS)}."
    )
    scoring: Scoring | None = Field(
        None,
        description="Rules by which items are encoded and scored; by default `core` for MosaicML files, `nanogpt` for "
        "llm.c's `.bin`, else `lm-eval`.",
    )
    shots: int | None = Field(None, ge=0, le=1000, description="Solved items before each item; 0 by default.")
    delimiter: str | None = Field(None, description="Text between context and continuation; a space by default.")
    bos: bool | None = Field(
        None, description="Put the beginning-of-text token before each item; as `scoring` does it by default."
    )
    max_items: int | None = Field(None, ge=1, le=INT64_MAX, description="Score only N items of the task.")

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, Path)) else value

    @field_validator("data")
    @classmethod
    def _some_data(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no file")
        return value

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, value: str | None) -> str | None:
        if value is not None and value not in (*TASKS, TOKENS):
            near = get_close_matches(value, TASKS, n=1)
            raise ValueError(
                "is no known task" + (f"; did you mean `{near[0]}`?" if near else f"; one of {', '.join(TASKS)}")
            )
        return value

    @field_validator("seq_len")
    @classmethod
    def _is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= INT64_MAX:
            raise ValueError("must be at least 1, or `auto`")
        return value

    @model_validator(mode="after")
    def _skips_nothing(self) -> EvalSettings:
        most = SEQ_LEN_AUTO_MAX if isinstance(self.seq_len, str) else self.seq_len
        if self.stride is not None and self.stride > most:
            given = "seq_len = `auto`, which is at most 1024" if isinstance(self.seq_len, str) else f"seq_len = {most}"
            raise ValueError(f"stride = {self.stride} with {given}: tokens between windows would never be scored")
        return self

    @model_validator(mode="after")
    def _is_stream_or_task(self) -> EvalSettings:
        if self.task is not None and (problem := misplaced_keys(self, is_task=True)) is not None:
            raise ValueError(problem)
        return self


class SuiteSettings(Section):
    """`[[suite]]`: a folder of tasks with `core.yaml` and `eval_meta_data.csv`; each task becomes an eval set."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"data", "tokenizer"})

    name: str = Field("", description="Name in the results, before the task's: NAME/TASK; the folder's by default.")
    data: str = Field(description="The folder, such as nanochat's `eval_bundle`.")
    tokenizer: str | None = Field(None, description="As in [[eval]].")
    seq_len: int | Literal["auto"] = Field(
        "auto", description="Longest item in tokens; `auto` is the model's context length."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="As in [[eval]].")
    max_items: int | None = Field(None, ge=1, le=INT64_MAX, description="Score only N items of each task.")


def misplaced_keys(section: EvalSettings, *, is_task: bool) -> str | None:
    """Why the section says something that has no meaning for what its files hold; None where all of it has."""
    for key in STREAM_KEYS if is_task else TASK_KEYS:
        if getattr(section, key) != type(section).model_fields[key].default:
            if not is_task:
                return f"{key} belongs to a task, and the files hold none that is recognised: name it with `task`"
            instead = {"max_tokens": ": use max_items", "format": ": leave one of the two out"}.get(key, "")
            return f"{key} has no meaning for a task{instead}"
    return None


def config_problem(value: Any, where: str = "", depth: int = 0) -> str | None:
    """Why this cannot be a model's configuration: it must be what JSON can hold. None where it can."""
    if depth > NESTING_MAX:
        return f"{where[:80]} is nested more than {NESTING_MAX} deep"
    if isinstance(value, dict):
        inner = [(f"{where}.{key}" if where else str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        inner = [(f"{where}[{position}]", item) for position, item in enumerate(value)]
    elif value is None or isinstance(value, (bool, str)):
        return None
    elif isinstance(value, int):
        return None if abs(value) <= INT64_MAX else f"{where} is an integer of more than 64 bits"
    elif isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value}; a configuration holds finite numbers"
    else:
        return f"{where} is a {type(value).__name__}; write it as text or a number"
    return next((problem for at, item in inner if (problem := config_problem(item, at, depth + 1))), None)
