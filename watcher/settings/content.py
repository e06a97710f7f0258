"""The content of the files that settings name: which files a tokenizer has, and digests, kept by stat result.

Reads files only to take their digest. Knows no section.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from evalcore.data_digest import digest_files
from evalcore.launch_folder import write_atomically
from evalcore.progress import Progress
from watcher.errors import ConfigError
from watcher.settings.paths import plain_path


def tokenizer_files(where: str, tokenizer: str | None) -> tuple[str | None, list[str]]:
    """(tokenizer with an absolute path where it is a file, every file that can change its ids, absent ones too)."""
    if tokenizer in (None, "auto"):  # the checkpoint folder's own, else gpt2
        return None, []
    path = plain_path(tokenizer)
    inside = next((n for n in ("tokenizer.json", "tokenizer.pkl") if os.path.isfile(os.path.join(path, n))), None)
    is_folder = inside is not None
    if not is_folder and os.sep not in tokenizer and not tokenizer.endswith((".json", ".tiktoken", ".model", ".pkl")):
        return tokenizer, []  # a name, also where a file or folder of that name is in the working directory
    if not is_folder and not os.path.isfile(path):
        raise ConfigError(f"{where}: there is no tokenizer file {tokenizer}", hint="check its path")
    main = os.path.join(path, inside) if inside is not None else path
    if main.endswith(".json"):
        return path, [main, os.path.join(os.path.dirname(main), "tokenizer_config.json")]
    return path, [main, f"{main}.json"]


def existing(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.isfile(path)]


def digest_of(
    where: str,
    paths: list[str],
    known: dict[str, str],
    report: Callable[[Progress], None] | None = None,
    name: str = "",
) -> str:
    """Digest of the files in order; empty for no files. known: digests by stat, added to. name: in the progress.

    Raises ConfigError that begins with `where`.
    """
    began_s = time.time()

    def report_bytes(done: int) -> None:
        if report is not None:
            total = sum(status.st_size for status in stats)
            report(Progress("hashing", done, total, "bytes", name, since=began_s, at=time.time()))

    if not paths:
        return ""
    try:
        stats = [os.stat(path) for path in paths]
        key = json.dumps(
            [(p, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p, s in zip(paths, stats, strict=True)]
        )
        if key not in known:
            known[key] = digest_files(paths, report_bytes)
        return known[key]
    except OSError as error:
        raise ConfigError(f"{where}: {error.filename} cannot be read: {error.strerror}") from None


def cached_digests(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
        return dict(list(known.items())[-1000:])
    except (OSError, ValueError, AttributeError):
        return {}


def keep_digests(file: Path, known: dict[str, str]) -> None:
    write_atomically(file, json.dumps(known))
