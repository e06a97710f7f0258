"""Which GPU a launch gets: recorded answers of the driver in, a choice or the reason for none out."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from evalcore.device_memory import ModelSize
from evalcore.launch_folder import LaunchFolder
from evalcore.messages import EvalSetSpec, LaunchSpec, ModelSpec
from tests.support.daemon import wait_until
from watcher.launch.cpus import usable_cpus
from watcher.launch.devices import TRAINING_OVER_S, Choice, DevicePool, parse_visible, visible_gpus
from watcher.launch.driver import DriverReport, Gpu
from watcher.launch.local import LocalLauncher, torchrun_arguments
from watcher.launch.protocol import LaunchPlan
from watcher.settings.schema import LaunchSettings

GIB = 1 << 30
BUSY = Gpu("0", "GPU-a", 1 * GIB, 80 * GIB, (123,))
FREE = Gpu("1", "GPU-b", 79 * GIB + GIB // 2, 80 * GIB)
SHARED = Gpu("2", "GPU-c", 30 * GIB, 80 * GIB, (456,))


def pool_of(gpus: list[Gpu], visible: str | None = None) -> DevicePool:
    return DevicePool(lambda: DriverReport(tuple(gpus)), visible)


def chosen(gpus: list[Gpu], taken: tuple[str, ...] = (), visible: str | None = None, **settings) -> Choice:
    return pool_of(gpus, visible).choose(LaunchSettings(**settings), taken, 0.0)


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
    pool = pool_of(gpus)
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
    pool, settings = pool_of([FREE]), LaunchSettings(when="after_training")
    assert pool.choose(settings, (), 0.0).wait_for
    assert pool.choose(settings, (), 3600.0).wait_for


def test_cuda_visible_devices_is_read_as_cuda_reads_it() -> None:
    assert parse_visible("0, 2") == ("0", "2") and parse_visible("0,-1,2") == ("0",)
    assert parse_visible("GPU-1a,MIG-2b") == ("GPU-1a", "MIG-2b") and parse_visible("NoDevFiles") == ()


CARDS = [Gpu(i, f"GPU-{uuid}", 80 * GIB, 80 * GIB) for i, uuid in (("0", "ab1"), ("1", "ab2"), ("3", "cd3"))]


@pytest.mark.parametrize(
    ("visible", "indexes"),
    [
        ("", ""), ("-1", ""), ("none", ""), ("0,0", ""), ("1,1,0", ""), ("01", "1"), ("+1 , 0", "10"), ("1x,0", "10"),
        ("0,9,1", "0"), ("9,0", ""), ("0,2,3", "03"), ("3,0", "30"), ("GPU-ab2,GPU-c", "13"), ("GPU-", ""),
        ("GPU-ab1,GPU-ab", "0"), ("GPU-zz,GPU-ab1", ""), ("GPU-ab1,GPU-ab1", ""), ("0,GPU-ab1", ""), ("0,,1", "0"),
    ],
)  # fmt: skip
def test_a_list_that_cuda_cuts_short_or_empties_shows_no_more_gpus_here(visible, indexes) -> None:
    """By CUDA's rules, as torch.cuda's own parser has them: twice the same is none, out of range ends the list. GPU 2
    of these cards is lost."""
    shown = visible_gpus(CARDS, parse_visible(visible))
    assert [gpu.index for gpu in shown] == list(indexes)


@pytest.mark.parametrize(("visible", "device"), [("7", "auto"), ("GPU-zz", "auto"), ("", "cuda"), ("-1", "cuda")])
def test_a_list_that_leaves_no_gpu_is_said_and_never_changes_the_device_in_silence(visible, device) -> None:
    assert "CUDA_VISIBLE_DEVICES of the daemon leaves no GPU" in (
        chosen(CARDS, visible=visible, device=device).wait_for or ""
    )
    assert chosen(CARDS, visible=visible, device=device, fallback="cpu") == Choice("cpu")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_where_every_gpu_is_hidden_the_driver_is_not_asked(visible) -> None:
    """A driver that hangs, or a GPU that cannot be used, is no reason to wait where none is wanted."""
    pool = DevicePool(lambda: pytest.fail("asked"), visible)
    assert pool.choose(LaunchSettings(), (), 0.0) == Choice("cpu")


@pytest.mark.parametrize("visible", [None, "MIG-a,MIG-b", "MIG-x,MIG-y"])
def test_a_launch_of_several_ranks_gets_no_slices_of_a_gpu(visible) -> None:
    """CUDA shows a process one slice, whatever its list holds: rank 1 would find no device."""
    slices = [Gpu("", f"MIG-{name}", 10 * GIB, 10 * GIB) for name in "ab"]
    waits = chosen(slices, visible=visible, nproc=2)
    assert "a process of CUDA sees one; set launch.nproc = 1" in (waits.wait_for or "")
    whole = [Gpu(str(i), f"GPU-{i}", 9 * GIB, 10 * GIB) for i in (4, 5)]
    if visible is None:
        assert chosen(slices + whole, nproc=2).devices == ("GPU-4", "GPU-5")
    assert chosen(slices, visible=visible).devices == (("MIG-x",) if visible == "MIG-x,MIG-y" else ("MIG-a",))


def test_the_memory_that_must_be_free_follows_the_largest_model_that_waits() -> None:
    pool = pool_of([Gpu("0", "GPU-a", 10 * GIB, 80 * GIB)])
    small, large = ModelSize(124_000_000, 50257, 768, True), ModelSize(7_000_000_000, 32000, 4096, True)
    lower, mixed = (
        LaunchSpec("", tuple(EvalSetSpec(dtype, (), dtype=dtype) for dtype in dtypes))
        for dtypes in (("auto", "bfloat16"), ("auto", "float32"))
    )

    def waits_for(largest: ModelSize, spec: LaunchSpec, **settings) -> str:
        return pool.choose(LaunchSettings(**settings), (), 0.0, largest, spec).wait_for or ""

    assert waits_for(small, lower) == "" == waits_for(large, lower, reserve_bytes=GIB)
    assert "1 GPU(s) with 15.7 GiB free needed; the freest of 1 has 10.0 GiB" in waits_for(large, lower)
    assert "1 GPU(s) with 40.8 GiB free needed" in waits_for(large, mixed)
    own_code = replace(lower, model=ModelSpec(factory="code:build"))
    assert "1 GPU(s) with 40.1 GiB free needed" in waits_for(large, own_code)


@pytest.mark.parametrize(("device", "has_rocm"), [("xpu", False), ("mps", False), ("cuda", True)])
def test_a_device_of_which_nothing_can_be_asked_gets_one_launch_at_a_time(device, has_rocm) -> None:
    pool = DevicePool(DriverReport, None, has_rocm)
    assert pool.choose(LaunchSettings(device=device), (), 0.0) == Choice(device)
    assert f"another launch is on {device}" in (
        pool.choose(LaunchSettings(device=device), (device,), 0.0).wait_for or ""
    )


EIGHT = [Gpu(str(i), f"GPU-{i}", 80 * GIB, 80 * GIB) for i in range(8)]


@pytest.mark.parametrize("nproc", [1, 2, 8])
def test_the_command_and_environment_of_a_launch_are_these(nproc, tmp_path, monkeypatch) -> None:
    """Golden: what torchrun gets for 1, 2 and 8 GPUs of a machine with 8."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # of an outer launcher; the launch's own list stands
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    choice = pool_of(EIGHT).choose(LaunchSettings(nproc=nproc), (), 0.0)
    plan = LaunchPlan("L1", LaunchFolder(tmp_path), choice.device, nproc, choice.devices, None, 0)
    assert torchrun_arguments(plan) == [
        *("-m", "evalcore.worker.torchrun", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"),
        *("--local-addr=127.0.0.1", "--rdzv-id=L1", f"--nproc-per-node={nproc}", "--max-restarts=0"),
        *("-m", "evalcore.worker", str(tmp_path)),
    ]
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\n")
    script.chmod(0o755)
    launcher = LocalLauncher()
    running = launcher.start(replace(plan, python=script))
    wait_until(lambda: launcher.poll(running))
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert env["CUDA_VISIBLE_DEVICES"] == ",".join(f"GPU-{i}" for i in range(nproc))
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" and "RANK" not in env and "OMP_NUM_THREADS" not in env


def test_launches_on_eight_gpus_never_share_one() -> None:
    pool, taken = pool_of(EIGHT), []
    for nproc in (2, 1, 4, 1):
        choice = pool.choose(LaunchSettings(nproc=nproc), taken, 0.0)
        assert len(choice.devices) == nproc and not set(choice.devices) & set(taken)
        taken += choice.devices
    assert len(set(taken)) == 8 and pool.choose(LaunchSettings(), taken, 0.0).wait_for


@pytest.mark.parametrize(
    ("files", "line", "cpus"),
    [
        ({"a/b/cpu.max": "150000 100000", "a/cpu.max": "max 100000"}, "0::/a/b", 2),
        ({"a/cpu.max": "100000 100000"}, "0::/a/b", 1),
        ({"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/x", 2),
        ({"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, "4:cpu:/x", 64),
        ({}, "0::/", 64),
    ],
)
def test_a_job_gets_as_many_threads_as_its_container_has_cpus(tmp_path, monkeypatch, files, line, cpus) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "self").write_text(line + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert usable_cpus(tmp_path / "groups", tmp_path / "self") == cpus
