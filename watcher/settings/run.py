"""The section `[[run]]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from watcher.domain.checkpoint import DEFAULT_INCLUDE, NamePattern
from watcher.domain.ready_marker import ReadyMarker
from watcher.settings.section import INT64_MAX, SECONDS_MAX, Section


class RunSettings(Section):
    """`[[run]]`: one watched training run."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"dir"})

    name: str = Field(
        "",
        description="Name in the results. Default: the folder's; `exp2-checkpoints` where another has that name.",
    )
    dir: Path = Field(description="Folder in which the trainer saves its checkpoints. Never written to.")
    include: tuple[str, ...] = Field(
        DEFAULT_INCLUDE,
        description="Globs relative to `dir`; `**/*.pt` includes subfolders; `*/` is every recognised folder.",
    )
    exclude: tuple[str, ...] = Field((), description="Globs to ignore, in addition to the built-in ignore list.")
    settle_s: float = Field(2.0, gt=0, le=3600, description="Seconds without a change before the file is read.")
    scan_s: float = Field(
        10.0, gt=0, le=86_400, description="Seconds between full scans of the folder; file events come at once."
    )
    ready_marker: str | None = Field(
        None, description="Name of the file that marks a checkpoint as complete: `{name}.done`, `DONE_{step:08d}`."
    )
    incomplete_timeout_s: float = Field(
        600.0, gt=0, le=SECONDS_MAX, description="Seconds without a change after which an incomplete file is `corrupt`."
    )
    pin: Literal["auto", "always", "never"] = Field(
        "auto", description="Copy settled files to the spool, so that the trainer may overwrite or delete them."
    )
    order: Literal["newest", "oldest", "fill"] = Field(
        "newest", description="Which checkpoint first: `fill` takes the newest, then halves the widest gap."
    )
    every: int = Field(
        1, ge=1, le=INT64_MAX, description="Evaluate only steps that are a multiple of N, and the newest."
    )
    backfill: Literal["all", "latest", "none"] = Field(
        "all", description="Which files that exist at the first start to evaluate."
    )

    @field_validator("include")
    @classmethod
    def _is_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one glob")
        return value

    @field_validator("include", "exclude")
    @classmethod
    def _are_globs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for glob in value:
            if glob.startswith(("/", "./", "../", "~")) or glob.endswith("//") or "/../" in glob:
                raise ValueError(f"{glob!r} never matches: globs are relative to `dir`, such as `*.pt` or `**/*.pt`")
            try:
                NamePattern((glob,))
            except re.error as error:
                raise ValueError(f"{glob!r} is no glob: {error}") from None
        return value

    @field_validator("ready_marker")
    @classmethod
    def _names_a_file(cls, value: str | None) -> str | None:
        if value is not None:
            ReadyMarker(value)
        return value
