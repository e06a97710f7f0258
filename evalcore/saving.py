"""For trainers: save a checkpoint so that it is there whole or not at all, and keep one from being rotated away.

Writes only to the given paths, in the trainer's process; nothing else in this project writes into that folder.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def save_checkpoint(obj: Any, path: str | os.PathLike[str]) -> Path:
    """`torch.save` by temporary name, fsync, rename and fsync of the folder; gives the path back.

    The temporary file lies in the same folder as `.<name>.<pid>.tmp`, which watchers ignore, and is removed where
    saving fails; an earlier checkpoint under this name then stays as it was.
    """
    import torch

    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(obj, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)
    return final


class Pin:
    """A kept checkpoint, usable as a path; `release()` or the end of a `with` block lets it go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Pin({str(self.path)!r})"

    def release(self) -> None:
        """Remove the pinned name; the trainer's own file is not touched."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def pin_checkpoint(
    path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None, *, copy: bool = False
) -> Pin:
    """Keep a checkpoint against the trainer's own rotation: a second name for it in `folder`, by default `pinned/`.

    A hard link costs no space and outlives the removal or atomic replacement of the original, but follows a rewrite
    in place: with a trainer that overwrites one file, pass copy=True. Where links are refused it is copied anyway.
    The same content pinned again is the same pin; another one under the same name gets a number.
    """
    original = Path(path)
    target_folder = Path(folder) if folder is not None else original.parent / "pinned"
    target_folder.mkdir(parents=True, exist_ok=True)
    for number in range(10_000):
        name = original.name if number == 0 else f"{original.stem}.{number}{original.suffix}"
        target = target_folder / name
        if target.exists() and original.samefile(target):
            return Pin(target)
        if not target.exists() and _place(original, target, copy):
            _sync_folder(target_folder)
            return Pin(target)
    raise FileExistsError(f"{target_folder} already holds 10,000 pins named like {original.name}")


def _place(original: Path, target: Path, copy: bool) -> bool:
    """Link or copy to the target; False where another process has just taken the name."""
    if not copy:
        try:
            os.link(original, target)
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError:
            pass  # another filesystem, or one without links: a copy does it
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with original.open("rb") as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 22)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, target)
    except FileExistsError:
        return False
    except PermissionError:  # a filesystem without links: the name was free a moment ago
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
