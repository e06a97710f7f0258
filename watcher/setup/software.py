"""Checks of installed software: Python, torch with torchrun, optional packages. Finds modules, never imports them."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from watcher.settings.schema import Settings
from watcher.setup.finding import Finding

#: As in pyproject.toml. The reader of checkpoints never calls torch.load.
TORCH_FLOOR = (2, 10, 0)
EXTRAS = {
    "hf": ("transformers", "safetensors", "tokenizers"),
    "plot": ("matplotlib", "plotext"),
    "web": ("starlette", "uvicorn", "jinja2"),
    "gpu": ("nvidia-ml-py",),
    "postgres": ("psycopg",),
    "parquet": ("pyarrow",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "apprise": ("apprise",),
}


def python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.release()}")


def torch(settings: Settings) -> Iterator[Finding]:
    python = settings.launch.python
    if python is not None:
        runs = os.access(python, os.X_OK)
        fix = "" if runs else "set launch.python to a Python that has torch and ckptwatch"
        yield Finding("torch", "ok" if runs else "problem", f"jobs run with {python}", fix)
        return
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        yield Finding(
            "torch", "problem", "torch is not installed in this environment", "pip install torch, or set launch.python"
        )
        return
    if release_of(version) < TORCH_FLOOR:
        floor = ".".join(map(str, TORCH_FLOOR))
        words = f"torch {version} is older than {floor}, which ckptwatch needs"
        yield Finding("torch", "problem", words, f"pip install -U 'torch>={floor}'")
    else:
        yield Finding("torch", "ok", f"torch {version}")
    spec = importlib.util.find_spec("torch")  # finds, does not import
    has_torchrun = (
        spec is not None
        and spec.origin is not None
        and Path(spec.origin).with_name("distributed").joinpath("run.py").exists()
    )
    if has_torchrun:
        yield Finding("torchrun", "ok", "torch.distributed.run is available")
    else:
        yield Finding(
            "torchrun", "problem", "this torch has no torch.distributed.run", "install a torch built with distributed"
        )


def extras(settings: Settings, url: str) -> Iterator[Finding]:
    needed: set[str] = {sink.kind for sink in settings.sink if sink.kind in EXTRAS}
    needed |= {"apprise"} if any(alert.apprise for alert in settings.alert) else set()
    needed |= {"web"} if settings.web.enabled else set()
    needed |= {"postgres"} if url.startswith("postgres") else set()
    present, absent = [], []
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if not _installed(package)]
        if not missing:
            present.append(extra)
        elif extra in needed:
            yield Finding(
                "extras",
                "problem",
                f"{extra} is configured, but {', '.join(missing)} is missing",
                f"in a clone of ckptwatch: pip install '.[{extra}]'",
            )
        else:
            absent.append(extra)
    words = f"installed: {', '.join(present) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield Finding("extras", "ok", words)


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version: `2.13.0+cpu` is (2, 13, 0)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
