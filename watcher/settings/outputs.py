"""The sections `[store]`, `[web]`, `[[sink]]` and `[[alert]]`: where results are kept, shown and sent."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from watcher.domain.database import DEFAULT_DATABASE
from watcher.settings.database_url import database_url_problem
from watcher.settings.section import INT64_MAX, SECONDS_MAX, Section


class StoreSettings(Section):
    """`[store]`: the database and the state folder."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"url", "state_dir"})

    url: str = Field(DEFAULT_DATABASE, description="A file, or the SQLAlchemy URL of a SQLite or PostgreSQL database.")
    state_dir: Path | None = Field(
        None, description="Lock, launches, logs, spool, token cache; `<database>.state` by default."
    )
    spool_max_bytes: int = Field(20 << 30, ge=0, le=INT64_MAX, description="Maximum size of all pinned copies.")
    keep_launches: int = Field(
        200, ge=1, le=1_000_000, description="Number of finished launch folders (with logs) to keep."
    )

    @field_validator("url")
    @classmethod
    def _is_a_database(cls, value: str) -> str:
        if (problem := database_url_problem(value)) is not None:
            raise ValueError(problem)
        return value

    @field_validator("state_dir")
    @classmethod
    def _is_a_folder(cls, value: Path | None) -> Path | None:
        if value is not None:
            for path in (value, *value.parents):
                if path.exists():
                    if not path.is_dir():
                        raise ValueError(f"{path} is a file; name a folder")
                    break
        return value


class WebSettings(Section):
    """`[web]`: the dashboard in the daemon's process; `ckptwatch serve` runs it separately."""

    enabled: bool = Field(False, description="Serve the dashboard from the daemon.")
    host: str = Field("127.0.0.1", description="Address to listen on; loopback unless `allow_remote`.")
    port: int = Field(8745, ge=0, le=65535, description="Port; 0 takes a free one.")
    allow_remote: bool = Field(False, description="Required to listen on an address other than loopback.")
    allowed_hosts: tuple[str, ...] = Field((), description="Further Host names that requests may carry.")
    edit: bool = Field(False, description="Allow notes and tags to be written on the page; needs `edit_token`.")
    edit_token: str | None = Field(
        None, description="What a person must enter to write a note or tag: 16 characters or more."
    )

    @model_validator(mode="after")
    def _edit_needs_a_token(self) -> Self:
        if self.edit and len(self.edit_token or "") < 16:
            raise ValueError(
                "edit = true needs edit_token with 16 characters or more; `openssl rand -hex 16` makes one"
            )
        return self


SinkKind = Literal["jsonl", "csv", "parquet", "tensorboard", "mlflow", "wandb", "trackio", "prometheus"]
SINK_KINDS: tuple[str, ...] = get_args(SinkKind)


class SinkSettings(Section):
    """`[[sink]]`: a file or tracker that gets every result."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: SinkKind = Field(description="Which tracker or file.")
    name: str = Field("", description="Name of this sink in the outbox; its kind by default.")
    path: Path | None = Field(None, description="File or folder, for the sinks that write one.")
    url: str | None = Field(None, description="Server or store, e.g. `sqlite:///mlflow.db`.")
    project: str | None = Field(None, description="W&B or trackio project, MLflow experiment.")
    entity: str | None = Field(None, description="W&B entity.")
    mode: Literal["online", "offline"] | None = Field(None, description="W&B mode.")

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, name: str) -> str:
        """The name is a folder in the state folder, and the alerts have rows of their own in the outbox."""
        if name == "alerts" or name.startswith("alert-"):
            raise ValueError(f"{name!r} is reserved for the alerts; choose another name for this sink")
        if name.startswith(".") or "/" in name or not name.isprintable():
            raise ValueError(f"{name!r} cannot be the name of a folder; use letters, digits, '-' and '_'")
        return name


Event = Literal["best", "nonfinite", "regression", "failure", "stalled", "lag", "result", "logged_loss"]


class AlertSettings(Section):
    """`[[alert]]`: on which events to notify, and how."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"best_link", "best_copy"})

    on: tuple[Event, ...] = Field(
        description="When: a new best, NaN, worse by k standard errors, a failure, no new checkpoint, late results, a "
        "loss that contradicts the one that the trainer logged."
    )
    eval_set: str | None = Field(None, description="Only for this eval set.")
    metric: Literal["loss", "bits_per_byte", "accuracy", "accuracy_norm"] | None = Field(
        None, description="What `best` and `regression` go by; accuracy for a task, else loss, by default."
    )
    command: tuple[str, ...] = Field((), description="Program and arguments; gets the event as JSON on stdin.")
    webhook: str | None = Field(None, description="URL that gets the event as a JSON POST.")
    apprise: str | None = Field(None, description="Apprise URL.")
    best_link: Path | None = Field(
        None,
        description='With `on = ["best"]`: a symlink kept to the best checkpoint of one run and set; `{run}` and '
        "`{eval_set}` in the path give each its own.",
    )
    best_copy: Path | None = Field(
        None, description='With `on = ["best"]`: a copy kept of the best checkpoint, as `best_link`.'
    )
    inside_dir: bool = Field(False, description="Allow best_link and best_copy inside the watched folder.")
    k_stderr: float = Field(3.0, gt=0, le=1e6, description="Standard errors that make a regression.")
    stalled_factor: float = Field(
        3.0, gt=1, le=1e6, description="Training has stalled after this multiple of the usual interval."
    )
    lag_s: float = Field(
        3600.0,
        gt=0,
        le=SECONDS_MAX,
        description="Results are late when the oldest waiting job is older than this.",
    )
    timeout_s: float = Field(
        30.0, gt=0, le=SECONDS_MAX, description="Seconds after which a command or webhook is given up."
    )
