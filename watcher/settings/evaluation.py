"""The sections `[model]` and `[[eval]]`: what is evaluated, and on what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from watcher.settings.section import INT64_MAX, Section

SEQ_LEN_AUTO_MAX = 1024  # `seq_len = "auto"` is the model's context length, at most this
NESTING_MAX = 32


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
    """`[[eval]]`: one named validation set."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"data", "tokenizer"})

    name: str = Field("", description="Name in the results; the file's stem by default.")
    data: tuple[str, ...] = Field(description="Files or globs: .txt, .jsonl, .npy, .bin; joined in this order.")
    format: Literal["auto", "text", "jsonl", "json", "npy", "bin", "raw"] = Field(
        "auto", description="Format of the files."
    )
    tokenizer: str | None = Field(None, description="tiktoken name, `bytes`, a .tiktoken or tokenizer.json file.")
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
