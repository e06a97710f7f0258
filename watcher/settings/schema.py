"""ckptwatch.toml as typed settings: every section, key, default and unit. Problems are told all at once.

The reference page and configs/full.toml are generated from the fields and descriptions here.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from watcher.domain.database import DEFAULT_DATABASE
from watcher.errors import ConfigError

DEFAULT_FILE = "ckptwatch.toml"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(Section):
    """`[[run]]`: one watched training run."""

    name: str = Field("", description="Name in the results; the folder's own name by default.")
    dir: Path = Field(description="The folder in which the trainer saves its checkpoints. Never written to.")
    include: tuple[str, ...] = Field(("*.pt",), description="Globs below `dir`; `**/*.pt` looks into subfolders.")
    exclude: tuple[str, ...] = Field((), description="Globs to leave aside, besides the built-in ignore list.")
    settle_s: float = Field(2.0, gt=0, le=3600, description="A file must be unchanged so long before it is read.")
    scan_s: float = Field(10.0, gt=0, le=86_400, description="How often the whole folder is looked at, events aside.")
    ready_marker: str | None = Field(
        None, description="A file that says a checkpoint is complete, e.g. `{name}.done` or `DONE_{step:08d}`."
    )
    incomplete_timeout_s: float = Field(
        600.0, gt=0, description="How long a half-written file is waited for before its verdict is `corrupt`."
    )
    pin: Literal["auto", "always", "never"] = Field(
        "auto", description="Copy settled files to the spool, so that the trainer may overwrite or delete them."
    )
    order: Literal["newest", "oldest", "fill"] = Field(
        "newest", description="Which checkpoint first: `fill` takes the newest, then halves the widest gap."
    )
    every: int = Field(1, ge=1, description="Evaluate only steps that are a multiple of this; the newest one always.")
    backfill: Literal["all", "latest", "none"] = Field(
        "all", description="Which of the files that lie there at the first start are evaluated."
    )

    @field_validator("include")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("needs at least one glob")
        return value


class ModelSettings(Section):
    """`[model]`: how to make the model where the checkpoint alone does not tell."""

    factory: str | None = Field(None, description="`package.module:function`, called as factory(config, state).")
    config: Path | dict[str, Any] | None = Field(
        None, description="A JSON or TOML file, or a table, for checkpoints that hold no configuration."
    )
    state: str | None = Field(None, description="Which state dict of the file to evaluate: `model`, `ema`, ...")
    python_path: tuple[Path, ...] = Field((), description="Folders in which the factory's code lies.")


class EvalSettings(Section):
    """`[[eval]]`: one named validation set."""

    name: str = Field("", description="Name in the results; the file's stem by default.")
    data: tuple[str, ...] = Field(description="Files or globs: .txt, .jsonl, .npy, .bin; joined in this order.")
    format: Literal["auto", "text", "jsonl", "npy", "bin", "raw"] = Field("auto", description="What the files are.")
    tokenizer: str | None = Field(None, description="tiktoken name, `bytes`, a .tiktoken or tokenizer.json file.")
    seq_len: int | Literal["auto"] = Field(
        "auto", description="Tokens per window; `auto` is the model's context length, at most 1024."
    )
    stride: int | None = Field(None, ge=1, description="Tokens between windows; seq_len by default.")
    max_tokens: int | None = Field(None, ge=2, description="Only the first so many tokens of the set.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto`: float32 on CPU, bfloat16 autocast on CUDA."
    )
    text_field: str = Field("text", description="The field of a .jsonl that holds the text.")
    token_dtype: Literal["uint8", "uint16", "uint32", "int32", "int64"] | None = Field(
        None, description="For token files without a header."
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
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1")
        return value


class SlurmSettings(Section):
    """`[launch.slurm]`: how a job is asked for where `launch.executor = "slurm"`."""

    partition: str | None = Field(None, description="sbatch --partition.")
    account: str | None = Field(None, description="sbatch --account.")
    qos: str | None = Field(None, description="sbatch --qos.")
    time: str | None = Field(None, description="sbatch --time, e.g. `00:30:00`.")
    nodes: int = Field(1, ge=1, description="Nodes of one launch; torchrun meets by c10d rendezvous.")
    gpus_per_node: int | None = Field(None, ge=0, description="sbatch --gpus-per-node.")
    extra: tuple[str, ...] = Field((), description="Further sbatch arguments, as they are.")
    setup: tuple[str, ...] = Field((), description="Shell lines before torchrun, e.g. `module load cuda`.")


class LaunchSettings(Section):
    """`[launch]`: the torchrun jobs."""

    executor: Literal["local", "slurm"] = Field("local", description="Where jobs run.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` is CUDA where there is one.")
    devices: tuple[str, ...] = Field((), description="GPUs to use, by index (PCI order) or UUID; all by default.")
    nproc: int = Field(1, ge=1, le=1024, description="Processes of a launch: one for each GPU, or CPU ranks.")
    batch_size: int | Literal["auto"] = Field("auto", description="Windows per forward pass and process.")
    threads: int | None = Field(None, ge=1, description="CPU threads of each process.")
    max_launches: int = Field(1, ge=1, le=1024, description="Launches at the same time.")
    timeout_s: float = Field(3600.0, gt=0, description="A launch may not work longer on one checkpoint.")
    stall_s: float = Field(300.0, gt=0, description="A launch may not go longer without progress.")
    attempts: int = Field(3, ge=1, description="Charged attempts after which a job has failed.")
    backoff_s: float = Field(10.0, ge=0, description="First pause before another attempt; four times as long each.")
    linger_s: float = Field(0.0, ge=0, description="How long an idle launch waits for another checkpoint.")
    nice: int = Field(10, ge=0, le=19, description="Niceness of the jobs.")
    env: tuple[str, ...] = Field((), description="Further environment variables that jobs may see.")
    python: Path | None = Field(None, description="The Python that runs torchrun; the daemon's own by default.")
    reserve_bytes: int = Field(
        2 << 30, ge=0, description="GPU memory that must be free before a launch, besides what the job needs."
    )
    when: Literal["always", "free", "after_training"] = Field(
        "always", description="Beside the trainer at any time, only on a GPU that nobody uses, or once it ended."
    )
    fallback: Literal["wait", "cpu"] = Field("wait", description="What to do while the GPU is not to be had.")
    verify: Literal["model", "all"] = Field("model", description="Which records' CRC is checked.")
    require_zip: bool = Field(False, description="Refuse torch's legacy format, which has no checksums.")
    selfcheck: bool = Field(False, description="Evaluate twice, with another batch size, and compare.")
    slurm: SlurmSettings = Field(SlurmSettings(), description="See `[launch.slurm]`.")


class StoreSettings(Section):
    """`[store]`: where the results are kept."""

    url: str = Field(DEFAULT_DATABASE, description="A file, or any SQLAlchemy URL.")
    state_dir: Path | None = Field(
        None, description="Lock, launches, logs, spool, token cache; `<database>.state` by default."
    )
    spool_max_bytes: int = Field(20 << 30, ge=0, description="What pinned copies may take together.")
    keep_launches: int = Field(200, ge=1, description="Finished launch folders (with logs) that are kept.")


class WebSettings(Section):
    """`[web]`: the dashboard inside the daemon; `ckptwatch serve` shows it apart."""

    enabled: bool = Field(False, description="Serve the dashboard from the daemon.")
    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless `allow_remote`.")
    port: int = Field(8745, ge=0, le=65535, description="Port; 0 takes a free one.")
    allow_remote: bool = Field(False, description="Needed to listen on another address than loopback.")
    allowed_hosts: tuple[str, ...] = Field((), description="Further Host names that requests may carry.")


class SinkSettings(Section):
    """`[[sink]]`: where results are sent on to, late and out of order if need be, never in a job's way."""

    kind: Literal["jsonl", "csv", "parquet", "tensorboard", "mlflow", "wandb", "trackio", "prometheus"] = Field(
        description="Which tracker or file."
    )
    name: str = Field("", description="Name of this sink in the outbox; its kind by default.")
    path: Path | None = Field(None, description="File or folder, for the sinks that write one.")
    url: str | None = Field(None, description="Server or store, e.g. `sqlite:///mlflow.db`.")
    project: str | None = Field(None, description="W&B or trackio project, MLflow experiment.")
    entity: str | None = Field(None, description="W&B entity.")
    mode: Literal["online", "offline"] | None = Field(None, description="W&B mode.")


class AlertSettings(Section):
    """`[[alert]]`: what to tell a person, and how."""

    on: tuple[Literal["best", "nonfinite", "regression", "failure", "stalled", "lag", "result"], ...] = Field(
        description="When: a new best, NaN, worse by k standard errors, a failure, no new checkpoint, late results."
    )
    eval_set: str | None = Field(None, description="Only for this set.")
    command: tuple[str, ...] = Field((), description="Program and arguments; gets the event as JSON on stdin.")
    webhook: str | None = Field(None, description="URL that gets the event as a JSON POST.")
    apprise: str | None = Field(None, description="Apprise URL.")
    best_link: Path | None = Field(None, description='With `on = ["best"]`: a symlink kept to the best checkpoint.')
    best_copy: Path | None = Field(None, description='With `on = ["best"]`: a copy kept of the best checkpoint.')
    inside_dir: bool = Field(False, description="Allow best_link and best_copy to lie in the watched folder.")
    k_stderr: float = Field(3.0, gt=0, description="Standard errors that make a regression.")
    stalled_factor: float = Field(3.0, gt=1, description="Times the usual interval that make a stalled training.")
    lag_s: float = Field(3600.0, gt=0, description="Age of the oldest waiting job that makes a lag.")
    timeout_s: float = Field(30.0, gt=0, description="What a command or webhook may take.")


class Settings(Section):
    """The whole of ckptwatch.toml."""

    run: tuple[RunSettings, ...] = Field((), description="Watched runs.")
    eval: tuple[EvalSettings, ...] = Field((), description="Validation sets.")
    model: ModelSettings = Field(ModelSettings(), description="The model.")
    launch: LaunchSettings = Field(LaunchSettings(), description="The jobs.")
    store: StoreSettings = Field(StoreSettings(), description="The database.")
    web: WebSettings = Field(WebSettings(), description="The dashboard.")
    sink: tuple[SinkSettings, ...] = Field((), description="Trackers and files.")
    alert: tuple[AlertSettings, ...] = Field((), description="Alerts.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for kind, names in (("run", [r.name for r in self.run]), ("eval", [e.name for e in self.eval])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two [[{kind}]] sections are named {', '.join(map(repr, twice))}")
        return self


def load_settings(file: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the file (where given), lay CKPTWATCH_* and then `overrides` over it, and check the whole.

    overrides: nested dict as the TOML would give. Raises ConfigError that names every problem at once.
    """
    data: dict[str, Any] = {}
    base = Path.cwd()
    if file is not None:
        data, base = read_toml(file), file.absolute().parent
    _anchor(data, base)
    _merge(data, _from_environment(os.environ))
    _merge(data, overrides or {})
    _name_sections(data)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(item, data)}" for item in error.errors())
        raise ConfigError(
            f"{file or 'the settings'}: {error.error_count()} problem{'s' * (error.error_count() > 1)}\n{problems}",
            hint="ckptwatch config schema shows every key with its default",
        ) from None


def read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {file}",
            hint="ckptwatch init DIR --data FILE writes one; or give `run --dir DIR --data FILE`",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {error}", hint="ckptwatch config validate") from None


def _from_environment(environment: Any) -> dict[str, Any]:
    """CKPTWATCH_DB, CKPTWATCH_STATE_DIR, and CKPTWATCH_<SECTION>_<KEY> for the single sections."""
    out: dict[str, Any] = {}
    singles: dict[str, type[BaseModel]] = {
        "launch": LaunchSettings,
        "store": StoreSettings,
        "web": WebSettings,
        "model": ModelSettings,
    }
    for name, value in environment.items():
        if not name.startswith("CKPTWATCH_"):
            continue
        key = name.removeprefix("CKPTWATCH_").lower()
        if key == "db":
            out.setdefault("store", {})["url"] = value
        elif key == "state_dir":
            out.setdefault("store", {})["state_dir"] = value
        for section, kind in singles.items():
            field = key.removeprefix(section + "_")
            if field != key and field in kind.model_fields:
                many = str(kind.model_fields[field].annotation).startswith("tuple")
                out.setdefault(section, {})[field] = value.split(",") if many else value
    return out


def _anchor(data: dict[str, Any], base: Path) -> None:
    """Relative paths of a file are relative to that file, not to wherever the daemon was started."""

    def anchored(value: Any) -> Any:
        return str(base / Path(value).expanduser()) if isinstance(value, str) and "://" not in value else value

    for section, keys in (("run", ("dir",)), ("sink", ("path",)), ("alert", ("best_link", "best_copy"))):
        for entry in data.get(section, []) if isinstance(data.get(section), list) else []:
            for key in keys:
                if isinstance(entry, dict) and key in entry:
                    entry[key] = anchored(entry[key])
    for entry in data.get("eval", []) if isinstance(data.get("eval"), list) else []:
        if isinstance(entry, dict) and "data" in entry:
            given = entry["data"] if isinstance(entry["data"], list) else [entry["data"]]
            entry["data"] = [anchored(path) for path in given]
        if isinstance(entry, dict) and isinstance(name := entry.get("tokenizer"), str) and "." in name:
            entry["tokenizer"] = anchored(name)
    for section, names in (("model", ["config"]), ("store", ["url", "state_dir"]), ("launch", ["python"])):
        entry = data.get(section)
        for key in names:
            if isinstance(entry, dict) and key in entry:
                entry[key] = anchored(entry[key])
    model = data.get("model")
    if isinstance(model, dict) and isinstance(model.get("python_path"), list):
        model["python_path"] = [anchored(path) for path in model["python_path"]]


def _name_sections(data: dict[str, Any]) -> None:
    """A run is named after its folder, a set after its first file, unless the file says otherwise."""
    for entry in data.get("run", ()):
        if isinstance(entry, dict) and not entry.get("name") and isinstance(entry.get("dir"), (str, Path)):
            entry["name"] = Path(os.path.abspath(entry["dir"])).name or "run"
    for entry in data.get("eval", ()):
        if isinstance(entry, dict) and not entry.get("name") and entry.get("data"):
            given = entry["data"]
            first = str(given if isinstance(given, (str, Path)) else next(iter(given)))
            stem = Path(first).name.replace("*", "").split(".")[0]
            entry["name"] = stem or "val"


def _merge(under: dict[str, Any], over: dict[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(under.get(key), dict):
            _merge(under[key], value)
        else:
            under[key] = value


def _problem(item: Any, data: dict[str, Any]) -> str:
    """One line for one problem: where, what, and for an unknown key the nearest valid one."""
    where = ".".join(str(part) for part in item["loc"]) or "the file"
    if item["type"] == "extra_forbidden":
        known = _keys_at(item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        return f"{where}: unknown key" + (f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}")
    if item["type"] == "missing":
        return f"{where}: missing"
    said = f"{where}: {item['msg'].removeprefix('Value error, ')}"
    return f"{said} (given: {str(item.get('input'))[:60]!r})" if item["loc"] else said  # the whole file tells nothing


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    kind: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        annotation = kind.model_fields[part].annotation
        kind = next((a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)), annotation)
    return list(kind.model_fields)
