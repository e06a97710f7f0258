"""The sections `[launch]` and `[launch.slurm]`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from watcher.settings.names import DEFAULT_DEVICE
from watcher.settings.section import INT64_MAX, SECONDS_MAX, Section


class SlurmSettings(Section):
    """`[launch.slurm]`: sbatch options, with `launch.executor = "slurm"`."""

    partition: str | None = Field(None, description="sbatch --partition.")
    account: str | None = Field(None, description="sbatch --account.")
    qos: str | None = Field(None, description="sbatch --qos.")
    time: str | None = Field(None, description="sbatch --time, e.g. `00:30:00`.")
    nodes: int = Field(1, ge=1, le=65_536, description="Nodes of one launch, joined by a c10d rendezvous.")
    gpus_per_node: int | None = Field(None, ge=0, le=1024, description="sbatch --gpus-per-node.")
    extra: tuple[str, ...] = Field((), description="Further sbatch arguments, passed unchanged.")
    setup: tuple[str, ...] = Field((), description="Shell lines before torchrun, e.g. `module load cuda`.")


class LaunchSettings(Section):
    """`[launch]`: the torchrun jobs."""

    PATHS: ClassVar[frozenset[str]] = frozenset({"python"})

    executor: Literal["local", "slurm"] = Field("local", description="Where jobs run.")
    device: Literal["auto", "cpu", "cuda", "xpu", "mps"] = Field(
        DEFAULT_DEVICE, description="`auto` is CUDA where there is a GPU. `xpu` and `mps` are not tested."
    )
    devices: tuple[str, ...] = Field(
        (),
        description="GPUs to use, by index (PCI order) or UUID, MIG slices by UUID; by default those in "
        "CUDA_VISIBLE_DEVICES, or all.",
    )
    nproc: int = Field(1, ge=1, le=1024, description="Processes per launch: one for each GPU, or CPU ranks.")
    batch_size: int | Literal["auto"] = Field("auto", description="Windows per forward pass and process.")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads per process.")
    max_launches: int = Field(1, ge=1, le=1024, description="Launches that run at the same time.")
    timeout_s: float = Field(
        3600.0, gt=0, le=SECONDS_MAX, description="Seconds after which work on one checkpoint is ended."
    )
    stall_s: float = Field(
        300.0, gt=0, le=SECONDS_MAX, description="Seconds without progress after which a launch is ended."
    )
    attempts: int = Field(3, ge=1, le=1000, description="Charged attempts after which a job has failed.")
    backoff_s: float = Field(
        10.0,
        ge=0,
        le=SECONDS_MAX,
        description="Seconds before the second attempt; quadruples with each further one.",
    )
    linger_s: float = Field(
        0.0, ge=0, le=SECONDS_MAX, description="Seconds that an idle launch waits for another checkpoint."
    )
    nice: int = Field(10, ge=0, le=19, description="Niceness of the jobs.")
    env: tuple[str, ...] = Field((), description="Further environment variables to pass to jobs; globs.")
    python: Path | None = Field(None, description="Python that runs torchrun; the daemon's own by default.")
    reserve_bytes: int | Literal["auto"] = Field(
        "auto",
        description="GPU memory that must be free for a launch to start on it. `auto`: what a rank takes for "
        "the largest model that waits (weights in the dtypes of the eval sets, one pass, one tile of logits, 1 GiB), "
        "at least 2 GiB.",
    )
    when: Literal["always", "free", "after_training"] = Field(
        "always",
        description="`free`: only on a GPU no other process uses; `after_training`: unused for 5 minutes.",
    )
    fallback: Literal["wait", "cpu"] = Field("wait", description="What to do while no GPU is available.")
    verify: Literal["model", "all"] = Field("model", description="Records whose CRC is checked.")
    require_zip: bool = Field(
        False,
        description="Refuse checkpoints without checksums: safetensors (files and Hugging Face folders), torch's "
        "legacy format, llm.c's, zip archives written with checksums turned off.",
    )
    selfcheck: bool = Field(False, description="Evaluate twice, with another batch size, and compare.")
    slurm: SlurmSettings = Field(SlurmSettings(), description="See `[launch.slurm]`.")

    @field_validator("batch_size")
    @classmethod
    def _is_positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= INT64_MAX:
            raise ValueError("must be at least 1, or `auto`")
        return value

    @field_validator("reserve_bytes")
    @classmethod
    def _is_a_size(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= INT64_MAX:
            raise ValueError("must be at least 0, or `auto`")
        return value

    @model_validator(mode="after")
    def _has_a_gpu_for_each_process(self) -> LaunchSettings:
        local_gpus = self.executor == "local" and self.device != "cpu"
        if local_gpus and self.devices and self.nproc > len(self.devices):
            raise ValueError(f"nproc = {self.nproc} needs as many GPUs, and devices names {len(self.devices)}")
        return self
