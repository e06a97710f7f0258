"""From `[[eval]]` and `[model]` settings to frozen descriptions: the files found, their content known by digest.

Reads data files only to take their digest, which is kept beside the database as long as a file's stat stays the same.
"""

from __future__ import annotations

import glob
import json
import os
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalcore.archive.model_digest import factory_digest
from evalcore.data_digest import digest_files, stamp
from evalcore.launch_folder import write_atomically
from evalcore.messages import EvalSetSpec, LaunchSpec, ModelSpec
from evalcore.progress import Progress
from watcher.errors import ConfigError
from watcher.settings.schema import EvalSettings, LaunchSettings, ModelSettings


def resolve_model(settings: ModelSettings) -> ModelSpec:
    """The `[model]` section with its configuration file read. Raises ConfigError."""
    config = settings.config
    if isinstance(config, Path):
        config = _read_table(config)
    python_path = tuple(map(os.fspath, settings.python_path))
    code = factory_digest(settings.factory, python_path)
    return ModelSpec(settings.factory, config, settings.state, python_path, code)


def resolve_sets(
    settings: tuple[EvalSettings, ...], digests: Path, tell: Callable[[Progress], None] | None = None
) -> list[EvalSetSpec]:
    """Each section's files and digest. digests: the file that remembers them. Raises ConfigError.

    tell: gets how far it is for every few megabytes that are read.
    """
    known = _remembered(digests)
    specs = [_resolve(section, known, tell) for section in settings]
    write_atomically(digests, json.dumps(known))
    return specs


def launch_spec(
    settings: LaunchSettings, specs: Sequence[EvalSetSpec], model: ModelSpec, token_cache: Path
) -> LaunchSpec:
    """What every launch of this configuration has in common; its own name and device are filled in later."""
    return LaunchSpec(
        launch="",
        eval_sets=tuple(specs),
        model=model,
        device=settings.device,
        batch_size=None if settings.batch_size == "auto" else settings.batch_size,
        linger_s=settings.linger_s,
        verify=settings.verify,
        require_zip=settings.require_zip,
        cache_dir=os.fspath(token_cache),
        selfcheck=settings.selfcheck,
    )


def missing_files(spec: EvalSetSpec) -> list[str]:
    """Files of the set that cannot be read now."""
    return [path for path in spec.paths if not os.access(path, os.R_OK)]


def changed_files(spec: EvalSetSpec) -> list[str]:
    """Files of the set that are not as they were when they were hashed."""
    return [path for path, then in zip(spec.paths, spec.stamps, strict=True) if data_stamp(path) != then]


def data_stamp(path: str) -> str:
    """`stamp` of a file, or `gone`."""
    try:
        return stamp(path)
    except OSError:
        return "gone"


def _resolve(section: EvalSettings, known: dict[str, str], tell: Callable[[Progress], None] | None) -> EvalSetSpec:
    paths: list[str] = []
    for given in section.data:
        found = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else [given]
        readable = [os.path.abspath(path) for path in found if os.path.isfile(path)]
        if not readable:
            raise ConfigError(
                f"[[eval]] {section.name}: there is no file {given}",
                hint="check `data`, or see what a file is with `ckptwatch data sniff PATH`",
            )
        paths += readable
    tokenizer = section.tokenizer
    is_file = tokenizer is not None and os.path.isfile(tokenizer)
    if tokenizer is not None and not is_file and (os.sep in tokenizer or tokenizer.endswith((".json", ".tiktoken"))):
        raise ConfigError(f"[[eval]] {section.name}: there is no tokenizer file {tokenizer}")
    return EvalSetSpec(
        name=section.name,
        paths=tuple(paths),
        format=section.format,
        tokenizer=os.path.abspath(tokenizer) if is_file and tokenizer else tokenizer,
        seq_len=None if section.seq_len == "auto" else section.seq_len,
        stride=section.stride,
        max_tokens=section.max_tokens,
        dtype=section.dtype,
        text_field=section.text_field,
        token_dtype=section.token_dtype,
        stamps=tuple(map(data_stamp, paths)),  # before they are hashed: what changes meanwhile must not look hashed
        data_digest=_digest(section.name, paths, known, tell),
        tokenizer_digest=_digest(section.name, [tokenizer], known) if is_file and tokenizer else "",
    )


def _digest(name: str, paths: list[str], known: dict[str, str], tell: Callable[[Progress], None] | None = None) -> str:
    began_s = time.time()

    def report(done: int) -> None:
        if tell is not None:
            total = sum(status.st_size for status in stats)
            tell(Progress("hashing", done, total, "bytes", name, since=began_s, at=time.time()))

    try:
        stats = [os.stat(path) for path in paths]
        key = json.dumps(
            [(p, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p, s in zip(paths, stats, strict=True)]
        )
        if key not in known:
            known[key] = digest_files(paths, report)
        return known[key]
    except OSError as error:
        raise ConfigError(f"[[eval]] {name}: {error.filename} cannot be read: {error.strerror}") from None


def _remembered(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
        return dict(list(known.items())[-1000:])
    except (OSError, ValueError, AttributeError):
        return {}


def _read_table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"[model] config: there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"[model] config: {path} cannot be read: {error}", hint="give JSON or TOML") from None
    if not isinstance(table, dict):
        raise ConfigError(f"[model] config: {path} holds no table of keys")
    return table
