"""Is this machine fit to run ckptwatch? Each finding: what was seen, what to do. Changes nothing, imports no torch."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from watcher.domain.checkpoint import HUGGING_FACE
from watcher.errors import EnvironmentProblem
from watcher.launch.datafiles import ask
from watcher.settings.schema import Settings
from watcher.setup.discover import look_at
from watcher.state.folder import StateFolder
from watcher.store.engine import NETWORK_FILESYSTEMS, WAL_RESET_FIXED, filesystem_type, journal_mode, sqlite_path

TEXT_ENDS = (".txt", ".text", ".md", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
#: Below it torch.load can be made to run code even with weights_only (CVE-2025-32434 to 2.5.1, CVE-2026-24747 to 2.9).
TORCH_FLOOR = (2, 10, 0)
INSTANCES_MIN, WATCHES_MIN = 128, 8_192
FREE_MIN_BYTES = 1 << 30
FUTURE_S = 60.0
WALK_MAX = 20_000

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


@dataclass(frozen=True)
class Finding:
    """level: ok | note | warning | problem. fix: what to do, for all but ok."""

    check: str
    level: str
    words: str
    fix: str = ""


def examine(settings: Settings, url: str, state: StateFolder, now_s: float) -> list[Finding]:
    """Every check, in the order in which a person would read them."""
    return [
        *_python(),
        *_torch(settings),
        *_database(url),
        *_state(state),
        *_inotify(settings),
        *_runs(settings, now_s),
        *_data(settings),
        *_tokenizers(settings),
        *_clock(now_s),
        *_devices(settings),
        *_extras(settings, url),
    ]


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version: `2.13.0+cpu` is (2, 13, 0)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.release()}")


def _torch(settings: Settings) -> Iterator[Finding]:
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
            "torch", "problem", "torch is not installed beside ckptwatch", "pip install torch, or set launch.python"
        )
        return
    if release_of(version) < TORCH_FLOOR:
        floor = ".".join(map(str, TORCH_FLOOR))
        words = (
            f"torch {version} is below {floor}: its torch.load can be made to run code (CVE-2025-32434, CVE-2026-24747)"
        )
        yield Finding(
            "torch", "problem", words, f"pip install -U 'torch>={floor}'; meanwhile set launch.require_zip = true"
        )
    else:
        yield Finding("torch", "ok", f"torch {version}")
    spec = importlib.util.find_spec("torch")  # finds, does not import
    there = (
        spec is not None
        and spec.origin is not None
        and Path(spec.origin).with_name("distributed").joinpath("run.py").exists()
    )
    if there:
        yield Finding("torchrun", "ok", "torch.distributed.run is there")
    else:
        yield Finding(
            "torchrun", "problem", "this torch has no torch.distributed.run", "install a torch built with distributed"
        )


def _database(url: str) -> Iterator[Finding]:
    path = sqlite_path(url)
    if path is None:
        yield Finding("database", "ok", "a database server")
        return
    folder = _existing(path.absolute().parent)
    mode, kind = journal_mode(path), filesystem_type(folder)
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        fixed = ".".join(map(str, WAL_RESET_FIXED))
        words = f"SQLite {version} can corrupt a WAL database (fixed in {fixed}); journal mode {mode} is used instead"
        yield Finding(
            "sqlite",
            "note",
            words,
            f"a Python with SQLite {fixed} lets readers and the writer not wait for one another",
        )
    else:
        yield Finding("sqlite", "ok", f"SQLite {version}, journal mode {mode}")
    if kind in NETWORK_FILESYSTEMS:
        words = f"the database lies on {kind} ({folder}): locks on network file systems are not to be trusted"
        yield Finding("filesystem", "warning", words, "put it on a local disk with --db FILE or [store] url")
    else:
        yield Finding("filesystem", "ok", f"the database lies on {kind or 'an unknown file system'}")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        yield Finding(
            "permissions", "problem", f"{target} is not writable", "chown or chmod it, or choose another with --db"
        )


def _state(state: StateFolder) -> Iterator[Finding]:
    folder = _existing(state.root)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("permissions", "problem", f"the state folder {folder} is not writable", "set [store] state_dir")
        return
    free = os.statvfs(folder)
    free_bytes = free.f_bavail * free.f_frsize
    words = f"{free_bytes / 2**30:.1f} GiB free for database, logs and pinned copies in {folder}"
    if free_bytes < FREE_MIN_BYTES:
        yield Finding("disk", "warning", words, "free some space, or move it with [store] state_dir")
    else:
        yield Finding("disk", "ok", words)
    if free.f_files and free.f_favail < 1000:
        yield Finding(
            "disk", "warning", f"only {free.f_favail} inodes are free in {folder}", "delete small files there"
        )


def _inotify(settings: Settings) -> Iterator[Finding]:
    base = Path("/proc/sys/fs/inotify")
    try:
        instances = int((base / "max_user_instances").read_text())
        watches = int((base / "max_user_watches").read_text())
    except (OSError, ValueError):
        yield Finding(
            "inotify", "note", "no inotify here: folders are scanned only", "nothing to do; scan_s says how often"
        )
        return
    folders = sum(_count_folders(run.dir) for run in settings.run if any("**" in glob for glob in run.include))
    words = f"{watches} watches, {instances} instances allowed" + (f"; {folders} folders to watch" if folders else "")
    low = watches < max(WATCHES_MIN, 2 * folders) or instances < INSTANCES_MIN
    fix = (
        "sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512; until then scans find every file"
    )
    yield Finding("inotify", "warning" if low else "ok", words, fix if low else "")


def _runs(settings: Settings, now_s: float) -> Iterator[Finding]:
    for run in settings.run:
        check = f"run {run.name}"
        if not run.dir.is_dir():
            yield Finding(check, "warning", f"{run.dir} is not there yet", "the daemon waits for it; or correct `dir`")
            continue
        if not os.access(run.dir, os.R_OK | os.X_OK):
            yield Finding(
                check, "problem", f"{run.dir} cannot be read by this user", f"chmod o+rx {run.dir}, or run as its owner"
            )
            continue
        if aside := look_at(run.dir).ignored.get(HUGGING_FACE):
            words = f"{aside} of Hugging Face's kind in {run.dir}: the daemon watches .pt files only"
            yield Finding(check, "note", words, "ckptwatch eval FOLDER --data FILE evaluates one")
        kind = filesystem_type(run.dir)
        if kind in NETWORK_FILESYSTEMS:
            words = f"{run.dir} lies on {kind}: another machine's writes give no events"
            yield Finding(check, "note", words, f"scans find them every {run.scan_s:g} s; lower scan_s if that is late")
        else:
            yield Finding(check, "ok", f"{run.dir} on {kind or 'an unknown file system'}")
        ahead_s = _newest_mtime_s(run.dir) - now_s
        if ahead_s > FUTURE_S:
            words = f"a file in {run.dir} was written {ahead_s:.0f} s in the future"
            yield Finding("clock", "warning", words, "let NTP set the clocks of both machines")


def _data(settings: Settings) -> Iterator[Finding]:
    import glob

    for entry in settings.eval:
        for given in entry.data:
            found = glob.glob(given, recursive=True) if glob.has_magic(given) else [given]
            unreadable = [path for path in found if not os.access(path, os.R_OK)]
            if not found or unreadable:
                words = f"{(unreadable or [given])[0]} is not there or cannot be read"
                yield Finding(f"eval {entry.name}", "problem", words, "correct `data`; ckptwatch data sniff PATH")
            else:
                yield Finding(f"eval {entry.name}", "ok", f"{len(found)} file(s)")


def _tokenizers(settings: Settings) -> Iterator[Finding]:
    """Can the ranks of tiktoken's encodings be had without the network? Asked of itself, in a process of its own."""
    wanted = {entry.tokenizer or "gpt2" for entry in settings.eval if entry.tokenizer or _has_text(entry.data)}
    names = sorted(name for name in wanted if not name.startswith("bytes") and os.sep not in name and "." not in name)
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://127.0.0.1:9")
    python = os.fspath(settings.launch.python) if settings.launch.python else None
    try:
        found = (
            list(ask("tokenizer", names, (), python, given=nowhere | {"NO_PROXY": "", "no_proxy": ""})) if names else []
        )
    except EnvironmentProblem as problem:
        yield Finding("tokenizer", "warning", f"could not be asked for: {problem.cause}", problem.hint)
        return
    for one in found:
        if one["problem"] is None:
            yield Finding("tokenizer", "ok", f"{one['tokenizer']}: {one['vocab_size']} ids, found on this machine")
        elif "not known" in one["problem"]:
            yield Finding("tokenizer", "problem", one["problem"], one["hint"])
        else:
            words = (
                f"the ranks of {one['tokenizer']} are not on this machine: the first job fetches them from the network"
            )
            fix = "offline: TIKTOKEN_CACHE_DIR=folder that has them, or tokenizer = a .tiktoken or tokenizer.json file"
            yield Finding("tokenizer", "note", words, fix)


def _has_text(data: Sequence[str]) -> bool:
    return any(path.endswith(TEXT_ENDS) for path in data)


def _clock(now_s: float) -> Iterator[Finding]:
    year = time.gmtime(now_s).tm_year
    if year < 2025:
        yield Finding("clock", "problem", f"the clock says {year}", "set it: timedatectl set-ntp true")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)))


def _devices(settings: Settings) -> Iterator[Finding]:
    from watcher.launch.driver import list_gpus

    if settings.launch.executor == "slurm":  # whose nodes have the devices, not this machine
        if sbatch := shutil.which("sbatch"):
            yield Finding("devices", "ok", f"jobs are Slurm's: {sbatch}")
        else:
            what = "launch.executor is slurm, and there is no sbatch on PATH"
            yield Finding("devices", "problem", what, "run it where `sbatch --version` answers")
        return
    gpus = list_gpus()
    if gpus:
        free = ", ".join(f"GPU {gpu.index} {gpu.free_bytes / 2**30:.1f} GiB free" for gpu in gpus)
        yield Finding("devices", "ok", free)
    elif settings.launch.device == "cuda":
        yield Finding(
            "devices", "problem", "launch.device is cuda, and the driver shows no GPU", 'nvidia-smi; or device = "cpu"'
        )
    else:
        yield Finding("devices", "ok", f"no GPU: jobs run on {os.cpu_count()} CPU(s)")


def _extras(settings: Settings, url: str) -> Iterator[Finding]:
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
                f"pip install 'ckptwatch[{extra}]'",
            )
        else:
            absent.append(extra)
    words = f"installed: {', '.join(present) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield Finding("extras", "ok", words)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _count_folders(root: Path) -> int:
    count = 0
    for _ in os.walk(root):
        count += 1
        if count >= WALK_MAX:
            break
    return count


def _newest_mtime_s(folder: Path) -> float:
    newest = 0.0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return newest  # a file that vanished meanwhile
    return newest
