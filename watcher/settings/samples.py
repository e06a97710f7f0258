"""The section `[[sample]]`: prompts from which every checkpoint generates texts, and how it becomes a frozen set.

Reads prompt files. Never encodes a prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from evalcore.data_digest import stamp
from evalcore.messages import EvalSetSpec
from evalcore.sampling.spec import (
    DEFAULT_NEW_TOKENS,
    DEFAULT_TIMEOUT_S,
    NEW_TOKENS_MAX,
    TIMEOUT_MAX_S,
    SampleSpec,
    sample_spec,
)
from watcher.errors import ConfigError
from watcher.settings.content import cached_digests, digest_of, existing, keep_digests, tokenizer_files
from watcher.settings.section import INT64_MAX, Section

FILE_MAX_BYTES = 1 << 20


class SampleSettings(Section):
    """`[[sample]]`: texts that every checkpoint generates, after its losses."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"prompts_file", "tokenizer"})

    name: str = Field("samples", description="Name of these samples.")
    prompts: tuple[str, ...] = Field((), description="Prompts.")
    prompts_file: Path | None = Field(
        None, description="File of more prompts: one per line; .jsonl: strings, or objects with `prompt`."
    )
    max_new_tokens: int = Field(
        DEFAULT_NEW_TOKENS, ge=1, le=NEW_TOKENS_MAX, description="Most tokens to generate for each prompt."
    )
    temperature: float | None = Field(
        None, description="Draw tokens; divides the logits. Without it, top_k and top_p the text is greedy."
    )
    top_k: int | None = Field(None, ge=1, le=INT64_MAX, description="Draw among the K likeliest tokens.")
    top_p: float | None = Field(None, description="Draw among the likeliest tokens that have this probability.")
    seed: int | None = Field(None, ge=0, le=INT64_MAX, description="Seed of the draws; 0 by default.")
    tokenizer: str | None = Field(
        None, description="Tokenizer of the training, as in [[eval]]; by default the checkpoint folder's own."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="As in [[eval]].")
    timeout_s: float = Field(
        DEFAULT_TIMEOUT_S,
        gt=0,
        le=TIMEOUT_MAX_S,
        description="Seconds for all prompts of a checkpoint; then texts are cut short.",
    )

    @model_validator(mode="after")
    def _can_be_generated(self) -> SampleSettings:
        if not self.prompts and self.prompts_file is None:
            raise ValueError("needs `prompts` or `prompts_file`")
        self.spec(self.prompts or ("a",))
        return self

    def spec(self, prompts: Sequence[str]) -> SampleSpec:
        """Raises ValueError for settings that contradict each other."""
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "timeout_s")
        return sample_spec(tuple(prompts), **{name: getattr(self, name) for name in names})


def resolve_samples(sections: Sequence[SampleSettings], digests: Path, taken: Sequence[str] = ()) -> list[EvalSetSpec]:
    """A set for each section, its prompts read. digests, taken: file of cached digests; names of the eval sets.

    Raises ConfigError.
    """
    known = cached_digests(digests)
    specs = [_resolve(section, known) for section in sections]
    names = Counter([*taken, *(spec.name for spec in specs)])
    if twice := [spec.name for spec in specs if names[spec.name] > 1]:
        raise ConfigError(f"[[sample]] {twice[0]}: an eval set has this name, too", hint="give the [[sample]] a `name`")
    keep_digests(digests, known)
    return specs


def _resolve(section: SampleSettings, known: dict[str, str]) -> EvalSetSpec:
    where = f"[[sample]] {section.name}"
    tokenizer, files = tokenizer_files(where, section.tokenizer)
    stamps = tuple(stamp(path) for path in files)  # before the digest, as for data
    try:
        more = _prompts_of(where, section.prompts_file) if section.prompts_file is not None else []
        sample = section.spec((*section.prompts, *more))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return EvalSetSpec(
        name=section.name,
        paths=(),
        tokenizer=tokenizer,
        dtype=section.dtype,
        stamps=stamps,
        tokenizer_digest=digest_of(where, existing(files), known),
        companions=tuple(files),
        sample=sample,
    )


def _prompts_of(where: str, file: Path) -> list[str]:
    try:
        with open(file, "rb") as reading:
            content = reading.read(FILE_MAX_BYTES + 1)
        if len(content) > FILE_MAX_BYTES:
            raise ConfigError(f"{where}: {file} is larger than {FILE_MAX_BYTES >> 20} MiB: it is no file of prompts")
        lines = content.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no file {file}", hint="check `prompts_file`") from None
    except OSError as error:
        raise ConfigError(f"{where}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: {file} is not UTF-8 text", hint="write one prompt per line") from None
    lines = [line.removesuffix("\r") for line in lines]
    if file.suffix != ".jsonl":
        prompts = [line for line in lines if line.strip()]
    else:
        prompts = [_of_json(where, file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise ConfigError(f"{where}: {file} holds no prompt", hint="write one prompt per line")
    return prompts


def _of_json(where: str, file: Path, number: int, line: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise ConfigError(
            f"{where}: {file} line {number} is neither a JSON string nor an object with the text `prompt`",
            hint='write "a prompt" or {"prompt": "a prompt"} on each line',
        )
    return prompt
