"""Which GPU a launch gets: recorded answers of the driver in, a choice or the reason for none out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from evalcore.launch_folder import LaunchFolder
from tests.support.daemon import wait_until
from watcher.launch.cpus import usable_cpus
from watcher.launch.devices import HUNG_PAUSE_S, TRAINING_OVER_S, Choice, DevicePool, parse_visible
from watcher.launch.driver import NVML, DriverReport, Gpu, ask_driver, parse_gpus, parse_processes
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


#: As `nvidia-smi` of driver 550 prints them, on a machine whose first GPU trains.
GPUS = (
    "0, GPU-5d2c7a1e-0000-0000-0000-000000000000, 40536, 81559, Disabled\n"
    "1, GPU-77aa0c9b-0000-0000-0000-000000000000, 81008, 81559, Disabled\n"
)
PROCESSES = "GPU-5d2c7a1e-0000-0000-0000-000000000000, 4711\nGPU-5d2c7a1e-0000-0000-0000-000000000000, 4712\n"


def test_the_drivers_answers_are_parsed_and_odd_lines_left_out() -> None:
    assert [(g.index, g.free_bytes >> 20, g.total_bytes >> 20) for g in parse_gpus(GPUS).gpus] == [
        ("0", 40536, 81559),
        ("1", 81008, 81559),
    ]
    odd = parse_gpus("0, GPU-1, [N/A], [N/A], [N/A]\nNVIDIA-SMI has failed\n, , , ,\n")
    assert odd == DriverReport((), ("GPU 0: the driver does not tell its memory ([N/A])",))
    assert parse_processes(PROCESSES) == {"GPU-5d2c7a1e-0000-0000-0000-000000000000": (4711, 4712)}
    assert parse_processes("No running processes found\nGPU-1, [Insufficient Permissions]\n") == {}


def put_nvidia_smi(folder: Path, monkeypatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("watcher.launch.driver.NVML", folder / "absent.py")


def test_a_gpu_that_a_process_uses_is_busy_without_nvml_too(tmp_path: Path, monkeypatch) -> None:
    script = f'case "$1" in *compute-apps*) printf "{PROCESSES}";; *) printf "{GPUS}";; esac'.replace("\n", "\\n")
    put_nvidia_smi(tmp_path, monkeypatch, script)
    first, second = ask_driver().gpus
    assert first.processes == (4711, 4712) and first.is_used and second.processes == () and not second.is_used
    assert chosen([first], when="free").wait_for and chosen([first, second], when="free").devices == (second.uuid,)


def test_a_gpu_whose_processes_are_hidden_is_busy_by_its_memory() -> None:
    """In a container the driver shows no pids of other containers."""
    assert (
        Gpu("0", "GPU-a", 70 * GIB, 80 * GIB).is_used
        and not Gpu("0", "GPU-a", 80 * GIB - (551 << 20), 80 * GIB).is_used
    )


@pytest.mark.parametrize("script", ["exit 1", "echo garbage, , ;", "printf '\\377\\n'"])
def test_a_broken_nvidia_smi_is_no_gpu(tmp_path: Path, monkeypatch, script: str) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, script)
    assert ask_driver() == DriverReport()


def test_a_driver_that_hangs_is_waited_for_and_never_taken_for_a_machine_without_a_gpu(tmp_path, monkeypatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr("watcher.launch.driver.QUERY_TIMEOUT_S", 0.3)
    report = ask_driver()
    assert "nvidia-smi gave no answer within 0.3 s" in report.problem
    asked = []
    pool = DevicePool(lambda: asked.append(1) or report, None)
    for now_s in (0.0, 10.0, HUNG_PAUSE_S + 1):
        assert "does not answer" in (pool.choose(LaunchSettings(), (), now_s).wait_for or "")
    assert len(asked) == 2, "a hung driver is not asked at every turn"
    assert pool.choose(LaunchSettings(fallback="cpu"), (), 200.0) == Choice("cpu")


def test_one_lost_gpu_hides_no_other(tmp_path, monkeypatch) -> None:
    lost = "Unable to determine the device handle for GPU 0000:1B:00.0: Unknown Error\n"
    script = f'case "$1" in *compute-apps*) ;; *) printf "{lost}{GPUS}";; esac; exit 15'.replace("\n", "\\n")
    put_nvidia_smi(tmp_path, monkeypatch, script)
    assert [gpu.index for gpu in ask_driver().gpus] == ["0", "1"]


def test_without_nvml_a_gpu_cut_into_slices_is_left_out_with_the_remedy() -> None:
    report = parse_gpus(GPUS.replace("81559, Disabled\n1", "81559, Enabled\n1"))
    assert [gpu.index for gpu in report.gpus] == ["1"] and "install the extra `gpu`" in report.left_out[0]
    waits = DevicePool(lambda: DriverReport((), report.left_out), None).choose(LaunchSettings(), (), 0.0)
    assert "GPU 0: it is cut into MIG slices" in (waits.wait_for or "")


#: pynvml as nvidia-ml-py 12 has it, answering for four GPUs: one trains, one is cut into two slices, one is lost, and
#: one is free. Written from the documentation: no GPU was at hand.
PYNVML = """
class NVMLError(Exception):
    pass
class Memory:
    def __init__(self, free, total):
        self.free, self.total, self.used = free << 30, total << 30, (total - free) << 30
class Process:
    pid = 4711
GPUS = ["train", "cut", "lost", "free"]
def nvmlInit(): pass
def nvmlDeviceGetCount(): return len(GPUS)
def nvmlDeviceGetHandleByIndex(index):
    if GPUS[index] == "lost":
        raise NVMLError("GPU is lost")
    return GPUS[index]
def nvmlDeviceGetMigMode(gpu):
    if gpu == "train":
        raise NVMLError("Not Supported")
    return [1, 1] if gpu == "cut" else [0, 0]
def nvmlDeviceGetMaxMigDeviceCount(gpu): return 7
def nvmlDeviceGetMigDeviceHandleByIndex(gpu, index):
    if index > 1:
        raise NVMLError("Not Found")
    return f"slice{index}"
def nvmlDeviceGetMemoryInfo(gpu):
    return {"train": Memory(10, 80), "free": Memory(80, 80), "slice0": Memory(10, 10), "slice1": Memory(3, 10)}[gpu]
def nvmlDeviceGetUUID(gpu): return ("MIG-" if gpu.startswith("slice") else "GPU-") + gpu
def nvmlDeviceGetComputeRunningProcesses(gpu):
    if gpu == "slice0":
        raise NVMLError("Insufficient Permissions")
    return [Process()] if gpu in ("train", "slice1") else []
"""


def test_nvml_tells_of_slices_and_of_lost_gpus_each_by_itself(tmp_path, monkeypatch) -> None:
    (tmp_path / "pynvml.py").write_text(PYNVML)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    put_nvidia_smi(tmp_path, monkeypatch, "exit 1")
    monkeypatch.setattr("watcher.launch.driver.NVML", NVML)
    report = ask_driver()
    assert report.left_out == ("GPU 2: GPU is lost",)
    assert [(g.key, g.index, g.free_bytes // GIB, g.processes) for g in report.gpus] == [
        ("GPU-train", "0", 10, (4711,)),
        ("MIG-slice0", "", 10, ()),
        ("MIG-slice1", "", 3, (4711,)),
        ("GPU-free", "3", 80, ()),
    ]
    pool = DevicePool(lambda: report, None)
    taken: list[str] = []
    for _ in range(2):
        choice = pool.choose(LaunchSettings(when="free"), taken, 0.0)
        taken += choice.devices
    assert taken == ["GPU-free", "MIG-slice0"]
    assert "2 taken by other launches" in (pool.choose(LaunchSettings(when="free"), taken, 0.0).wait_for or "")
    assert DevicePool(lambda: report, "MIG-slice1").choose(LaunchSettings(), (), 0.0).devices == ("MIG-slice1",)
    assert pool.choose(LaunchSettings(devices=("MIG-slice0",)), (), 0.0).devices == ("MIG-slice0",)


def test_nvml_that_hangs_does_not_hang_the_daemon(tmp_path, monkeypatch) -> None:
    (tmp_path / "pynvml.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    put_nvidia_smi(tmp_path, monkeypatch, f'printf "{GPUS}"'.replace("\n", "\\n"))
    monkeypatch.setattr("watcher.launch.driver.NVML", NVML)
    monkeypatch.setattr("watcher.launch.driver.QUERY_TIMEOUT_S", 0.3)
    assert "NVML gave no answer within 0.3 s" in ask_driver().problem


def test_a_driver_that_nothing_can_ask_is_said_and_not_taken_for_a_machine_without_a_gpu(monkeypatch, tmp_path) -> None:
    (tmp_path / "version").touch()
    monkeypatch.setattr("watcher.launch.driver.DRIVER_FILES", (str(tmp_path / "version"),))
    monkeypatch.setattr("watcher.launch.driver.NVML", tmp_path / "absent.py")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "neither nvidia-ml-py nor nvidia-smi can ask it; install nvidia-ml-py" in ask_driver().problem


def test_the_memory_that_must_be_free_follows_the_largest_model_that_waits() -> None:
    small = Gpu("0", "GPU-a", 10 * GIB, 80 * GIB)
    pool = pool_of([small])
    assert pool.choose(LaunchSettings(), (), 0.0, parameters=124_000_000).devices == ("GPU-a",)
    waits = pool.choose(LaunchSettings(), (), 0.0, parameters=7_000_000_000)
    assert "1 GPU(s) with 40.1 GiB free needed; the freest of 1 has 10.0 GiB" in (waits.wait_for or "")
    assert pool.choose(LaunchSettings(reserve_bytes=GIB), (), 0.0, parameters=7_000_000_000).devices == ("GPU-a",)


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
    choice = pool_of(EIGHT).choose(LaunchSettings(nproc=nproc), (), 0.0)
    plan = LaunchPlan("L1", LaunchFolder(tmp_path), choice.device, nproc, choice.devices, None, 0)
    assert torchrun_arguments(plan) == [
        *("-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"),
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
