"""Which GPU a launch gets: recorded answers of the driver in, a choice or the reason for none out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from watcher.launch.devices import TRAINING_OVER_S, Choice, DevicePool, parse_visible
from watcher.launch.driver import Gpu, list_gpus, parse_gpus, parse_processes
from watcher.settings.schema import LaunchSettings

GIB = 1 << 30
BUSY = Gpu("0", "GPU-a", 1 * GIB, 80 * GIB, (123,))
FREE = Gpu("1", "GPU-b", 79 * GIB + GIB // 2, 80 * GIB)
SHARED = Gpu("2", "GPU-c", 30 * GIB, 80 * GIB, (456,))


def chosen(gpus: list[Gpu], taken: tuple[str, ...] = (), visible: str | None = None, **settings) -> Choice:
    return DevicePool(lambda: gpus, visible).choose(LaunchSettings(**settings), taken, 0.0)


@pytest.mark.parametrize(
    ("gpus", "more", "choice"),
    [
        ([FREE], {"device": "cpu"}, Choice("cpu")),
        ([], {"device": "auto"}, Choice("cpu")),
        ([BUSY, SHARED, FREE], {"device": "auto"}, Choice("cuda", ("GPU-b",))),
        ([BUSY, SHARED, FREE], {"device": "cuda", "nproc": 2}, Choice("cuda", ("GPU-b", "GPU-c"))),
        ([BUSY, SHARED, FREE], {"device": "cuda", "devices": ("2",)}, Choice("cuda", ("GPU-c",))),
        ([BUSY, SHARED, FREE], {"device": "cuda", "devices": ("GPU-c",)}, Choice("cuda", ("GPU-c",))),
        ([BUSY], {"fallback": "cpu"}, Choice("cpu")),
        ([SHARED, FREE], {"device": "cuda", "devices": ("2",), "when": "free", "fallback": "cpu"}, Choice("cpu")),
        ([SHARED, FREE], {"taken": ("GPU-b",)}, Choice("cuda", ("GPU-c",))),
        ([SHARED, FREE], {"taken": ("1",)}, Choice("cuda", ("GPU-c",))),
        ([BUSY, SHARED, FREE], {"visible": "2"}, Choice("cuda", ("GPU-c",))),
        ([BUSY, SHARED, FREE], {"visible": "GPU-c"}, Choice("cuda", ("GPU-c",))),
        ([SHARED, FREE], {"visible": ""}, Choice("cpu")),
        ([SHARED, FREE], {"visible": "-1"}, Choice("cpu")),
        ([SHARED, FREE], {"visible": "MIG-x,MIG-y", "taken": ("MIG-x",)}, Choice("cuda", ("MIG-y",))),
    ],
)
def test_a_launch_gets_the_freest_gpus_that_are_allowed_visible_and_not_taken(gpus, more, choice) -> None:
    assert chosen(gpus, **more) == choice


@pytest.mark.parametrize(
    ("gpus", "more", "words"),
    [
        ([BUSY], {}, "2.0 GiB free needed; the freest of 1 has 1.0 GiB"),
        ([FREE], {"taken": ("GPU-b",)}, "1 taken by other launches"),
        ([SHARED], {"when": "free"}, "and no other process needed; the freest of 1 has 30.0 GiB, 1 in use"),
        ([FREE], {"when": "after_training"}, "and unused for 5 min needed"),
        ([FREE], {"device": "cuda", "devices": ("7",)}, "none of the GPUs 7 is available"),
        ([FREE], {"device": "cuda", "devices": ("1",), "visible": "0"}, "CUDA_VISIBLE_DEVICES of the daemon leaves no"),
        ([], {"device": "cuda"}, "the driver shows no GPU"),
        ([FREE], {"visible": "MIG-x", "taken": ("MIG-x",)}, "1 MIG slice(s) needed, 0 not taken"),
    ],
)
def test_where_no_gpu_can_be_had_the_reason_is_given(gpus, more, words) -> None:
    assert words in (chosen(gpus, **more).wait_for or "")


def test_after_training_waits_until_the_gpu_was_unused_for_minutes_and_not_only_between_two_runs() -> None:
    gpus, settings = [SHARED], LaunchSettings(when="after_training")
    pool = DevicePool(lambda: gpus, None)
    now_s = 0.0

    def poll_until(end_s: float, taken: tuple[str, ...] = ()) -> Choice:
        nonlocal now_s
        while now_s < end_s:
            now_s += 10.0
            choice = pool.choose(settings, taken, now_s)
        return choice

    assert poll_until(100.0).wait_for
    gpus[:] = [FREE]
    assert poll_until(100.0 + TRAINING_OVER_S - 50).wait_for
    gpus[:] = [BUSY]  # the trainer is back
    assert poll_until(500.0).wait_for
    gpus[:] = [FREE]
    assert poll_until(500.0 + TRAINING_OVER_S).wait_for
    assert poll_until(now_s + 10.0) == Choice("cuda", ("GPU-b",))
    now_s += 3600.0  # our launch ran, and nothing was asked meanwhile
    assert pool.choose(settings, (), now_s) == Choice("cuda", ("GPU-b",))
    gpus[:] = [SHARED, FREE]
    now_s += 3600.0
    assert pool.choose(settings, ("GPU-b",), now_s).wait_for


def test_after_training_trusts_nothing_about_a_time_in_which_it_did_not_look() -> None:
    pool, settings = DevicePool(lambda: [FREE], None), LaunchSettings(when="after_training")
    assert pool.choose(settings, (), 0.0).wait_for
    assert pool.choose(settings, (), 3600.0).wait_for


def test_cuda_visible_devices_is_read_as_cuda_reads_it() -> None:
    assert parse_visible("0, 2") == ("0", "2") and parse_visible("0,-1,2") == ("0",)
    assert parse_visible("GPU-1a,MIG-2b") == ("GPU-1a", "MIG-2b") and parse_visible("NoDevFiles") == ()


#: As `nvidia-smi` of driver 550 prints them, on a machine whose first GPU trains.
GPUS = "0, GPU-5d2c7a1e-0000-0000-0000-000000000000, 40536, 81559\n1, GPU-77aa0c9b-0000-0000-0000-000000000000, 81008, 81559\n"  # fmt: skip  # noqa: E501
PROCESSES = "GPU-5d2c7a1e-0000-0000-0000-000000000000, 4711\nGPU-5d2c7a1e-0000-0000-0000-000000000000, 4712\n"


def test_the_drivers_answers_are_parsed_and_odd_lines_left_out() -> None:
    assert [(g.index, g.free_bytes >> 20, g.total_bytes >> 20) for g in parse_gpus(GPUS)] == [
        ("0", 40536, 81559),
        ("1", 81008, 81559),
    ]
    assert parse_gpus("0, GPU-1, [N/A], [N/A]\nNVIDIA-SMI has failed\n, , ,\n") == []
    assert parse_processes(PROCESSES) == {"GPU-5d2c7a1e-0000-0000-0000-000000000000": (4711, 4712)}
    assert parse_processes("No running processes found\nGPU-1, [Insufficient Permissions]\n") == {}


def put_nvidia_smi(folder: Path, monkeypatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_a_gpu_that_a_process_uses_is_busy_without_nvml_too(tmp_path: Path, monkeypatch) -> None:
    script = f'case "$1" in *compute-apps*) printf "{PROCESSES}";; *) printf "{GPUS}";; esac'.replace("\n", "\\n")
    put_nvidia_smi(tmp_path, monkeypatch, script)
    first, second = list_gpus()
    assert first.processes == (4711, 4712) and first.is_used and second.processes == () and not second.is_used
    assert chosen([first], when="free").wait_for and chosen([first, second], when="free").devices == (second.uuid,)


def test_a_gpu_whose_processes_are_hidden_is_busy_by_its_memory() -> None:
    """In a container the driver shows no pids of other containers."""
    assert (
        Gpu("0", "GPU-a", 70 * GIB, 80 * GIB).is_used
        and not Gpu("0", "GPU-a", 80 * GIB - (551 << 20), 80 * GIB).is_used
    )


@pytest.mark.parametrize("script", ["exit 1", "echo garbage, , ;", "sleep 60", "printf '\\377\\n'"])
def test_a_broken_nvidia_smi_is_no_gpu_and_no_hang(tmp_path: Path, monkeypatch, script: str) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, script)
    assert list_gpus() == []
