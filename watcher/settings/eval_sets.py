"""From `[[eval]]` and `[model]` settings to frozen descriptions: paths expanded, content known by digest.

Reads data files only to take their digest, which is kept beside the database as long as a file's stamp stays the same.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalcore.archive.model_digest import factory_digest
from evalcore.data_digest import each_once, files_of_dataset, index_beside, index_name, kind_of_name
from evalcore.data_digest import stamp as data_stamp
from evalcore.messages import EvalSetSpec, LaunchSpec, ModelSpec
from evalcore.progress import Progress
from evalcore.tasks.sniffing import label_files
from evalcore.tasks.spec import TaskSpec
from watcher.errors import ConfigError
from watcher.settings.content import cached_digests, digest_of, existing, keep_digests, tokenizer_files
from watcher.settings.evaluation import config_problem
from watcher.settings.paths import plain_path
from watcher.settings.schema import EvalSettings, LaunchSettings, ModelSettings, SuiteSettings
from watcher.settings.tasks import suite_members, task_of


def resolve_model(settings: ModelSettings) -> ModelSpec:
    """The `[model]` section with its configuration file read. Raises ConfigError."""
    config = settings.config
    if isinstance(config, Path):
        config = _read_table(config)
    python_path = tuple(map(os.fspath, settings.python_path))
    code = factory_digest(settings.factory, python_path)
    return ModelSpec(settings.factory, config, settings.state, python_path, code)


def resolve_sets(
    sections: tuple[EvalSettings, ...],
    digests: Path,
    report: Callable[[Progress], None] | None = None,
    suites: tuple[SuiteSettings, ...] = (),
) -> list[EvalSetSpec]:
    """Files and digest of each eval set and of each suite's members. digests: the file that caches them.

    report: called with the progress for every few megabytes that are read. Raises ConfigError.
    """
    known = cached_digests(digests)
    specs = [_resolve(section, known, report) for section in sections]
    for suite in suites:
        members = [_resolve(section, known, report, task) for section, task in suite_members(suite)]
        specs += [dataclasses.replace(spec, suite=suite.name) for spec in members]
    if twice := [name for name, count in Counter(spec.name for spec in specs).items() if count > 1]:
        raise ConfigError(f"two eval sets are named {', '.join(twice)}", hint="give the [[eval]] or [[suite]] a `name`")
    keep_digests(digests, known)
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
    return [path for path, then in zip(spec.hashed_paths, spec.stamps, strict=True) if data_stamp(path) != then]


def data_files(section: EvalSettings) -> list[str]:
    """The absolute paths of the section's files, patterns expanded. Raises ConfigError where one matches no file."""
    paths: list[str] = []
    for given in section.data:
        is_pattern = glob.has_magic(given) and not os.path.exists(given)
        matches = sorted(glob.glob(given, recursive=True)) if is_pattern else [given]
        members = [member for path in matches for member in files_of_dataset(path) or [path]]
        readable = [plain_path(path) for path in members if os.path.isfile(path)]
        if not readable and os.path.isfile(os.path.join(given, "dataset_dict.json")):
            raise ConfigError(
                f"[[eval]] {section.name}: {given} is a Hugging Face DatasetDict of several splits",
                hint=f"name one of them, for example {os.path.join(given, 'validation')}",
            )
        if not readable:
            raise ConfigError(
                f"[[eval]] {section.name}: there is no file {given}",
                hint="check `data`, or see what a file is with `ckptwatch data sniff PATH`",
            )
        paths += readable
    return each_once(paths)


def _resolve(
    section: EvalSettings,
    known: dict[str, str],
    report: Callable[[Progress], None] | None,
    task: TaskSpec | None = None,
) -> EvalSetSpec:
    """task: of a suite's member; by default what the section says or its files are recognised as."""
    where = f"[[eval]] {section.name}"
    paths = data_files(section)
    task = task or task_of(section, paths)
    tokenizer, own_files = tokenizer_files(where, section.tokenizer)
    kinds: tuple[str, ...] = ()
    meta: list[str] = []
    labels: list[str] = []
    index_names: list[str] = []  # watched while absent: a .bin to which its index comes is read otherwise
    indices: list[str] = []
    if task is None:
        kinds = tuple(kind_of_name(path, section.format) for path in paths)
        beside = os.path.join(os.path.dirname(paths[0]), "meta.pkl")
        meta = [beside] if kinds[0] in ("bin", "raw") and not tokenizer else []
        if section.format == "auto" and section.token_dtype is None:  # a declared format is read without the index
            index_names = [name for path in paths if (name := index_name(path)) is not None]
            indices = [index for path in paths if (index := index_beside(path)) is not None]
        kinds = kinds[:1] if len(set(kinds)) == 1 else kinds
    else:
        labels = [path for item in paths for path in label_files(item, task.rendering)]
    companions = [*own_files, *meta, *labels, *index_names]
    # before the digests: a file that changes while it is hashed must not count as hashed
    stamps = tuple(data_stamp(path) for path in (*paths, *companions))
    if task is not None:
        task = dataclasses.replace(task, labels_digest=digest_of(where, existing(labels), known))
    return EvalSetSpec(
        name=section.name,
        paths=tuple(paths),
        format=section.format,
        tokenizer=tokenizer,
        seq_len=None if section.seq_len == "auto" else section.seq_len,
        stride=section.stride,
        max_tokens=section.max_tokens,
        dtype=section.dtype,
        text_field=section.text_field,
        token_dtype=section.token_dtype,
        stamps=stamps,
        data_digest=digest_of(where, [*paths, *indices], known, report, section.name),
        kinds=kinds,
        tokenizer_digest=digest_of(where, existing(own_files), known),
        meta_digest=digest_of(where, existing(meta), known),
        companions=tuple(companions),
        task=task,
    )


def _read_table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"[model] config: there is no file {path}") from None
    except RecursionError:
        raise ConfigError(f"[model] config: {path} is nested too deep to be read") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"[model] config: {path} cannot be read: {error}", hint="give JSON or TOML") from None
    if not isinstance(table, dict):
        raise ConfigError(f"[model] config: {path} holds no table of keys")
    if (problem := config_problem(table)) is not None:
        raise ConfigError(f"[model] config: {path}: {problem}")
    return table
