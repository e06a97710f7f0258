"""What the driver answers: nvidia-smi and NVML recorded, broken, hung, of another version, and without a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.watcher.launch.test_devices import GIB, chosen
from watcher.launch.devices import HUNG_PAUSE_S, Choice, DevicePool
from watcher.launch.driver import NVML, DriverReport, Gpu, ask_driver, parse_gpus, parse_processes
from watcher.settings.schema import LaunchSettings

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


#: What nvidia-smi prints where the libraries were upgraded under a loaded driver.
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\\nNVML library version: 550.90"


def test_a_driver_of_another_version_than_its_library_is_said_in_its_own_words(tmp_path, monkeypatch) -> None:
    put_nvidia_smi(tmp_path, monkeypatch, f'printf "{MISMATCH}\\n"; exit 18')
    (tmp_path / "version").touch()
    monkeypatch.setattr("watcher.launch.driver.LOADED", str(tmp_path / "version"))
    problem = ask_driver().problem
    assert "it answers: Failed to initialize NVML: Driver/library version mismatch" in problem and "dmesg" in problem
    assert "nvidia-ml-py" not in problem, "which would not help"
    pool = DevicePool(ask_driver, None)
    assert "version mismatch" in (pool.choose(LaunchSettings(), (), 0.0).wait_for or "")
    (tmp_path / "pynvml.py").write_text(
        "class NVMLError(Exception): pass\ndef nvmlInit(): raise NVMLError('Driver/library version mismatch')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("watcher.launch.driver.NVML", NVML)
    monkeypatch.setattr("watcher.launch.driver.DRIVER_FILES", (str(tmp_path / "version"),))
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr("watcher.launch.driver.WSL_FOLDER", str(tmp_path / "none"))
    assert "it answers: NVML: Driver/library version mismatch" in ask_driver().problem


@pytest.mark.parametrize("code", [0, 6])
def test_a_driver_without_a_gpu_for_this_process_is_no_gpu_and_no_problem(tmp_path, monkeypatch, code) -> None:
    """A job of Slurm without a GPU, on a node that has some."""
    put_nvidia_smi(tmp_path, monkeypatch, f'echo "No devices were found"; exit {code}')
    (tmp_path / "node").touch()
    monkeypatch.setattr("watcher.launch.driver.DRIVER_FILES", (str(tmp_path / "node"),))
    assert ask_driver() == DriverReport() and DevicePool(ask_driver, None).choose(LaunchSettings(), (), 0.0) == Choice(
        "cpu"
    )


def test_a_container_that_was_given_no_gpu_is_a_machine_without_one(tmp_path, monkeypatch) -> None:
    """/proc/driver/nvidia is the host's; there is no device node, no nvidia-smi and no NVML in the container."""
    (tmp_path / "version").touch()
    monkeypatch.setattr("watcher.launch.driver.LOADED", str(tmp_path / "version"))
    monkeypatch.setattr("watcher.launch.driver.DRIVER_FILES", (str(tmp_path / "absent"),))
    monkeypatch.setattr("watcher.launch.driver.WSL_FOLDER", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_driver() == DriverReport()


def test_on_wsl_nvidia_smi_is_found_beside_the_path(tmp_path, monkeypatch) -> None:
    put_nvidia_smi(
        tmp_path, monkeypatch, f'case "$1" in *compute-apps*) ;; *) printf "{GPUS}";; esac'.replace("\n", "\\n")
    )
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr("watcher.launch.driver.WSL_FOLDER", str(tmp_path))
    assert [gpu.index for gpu in ask_driver().gpus] == ["0", "1"]


def test_a_gpu_with_memory_errors_or_without_an_answer_is_left_out_by_its_own_words() -> None:
    """GPU 0 needs a reset after an uncorrectable ECC error, GPU 1 is lost, GPU 2 shares the memory of its CPU."""
    answer = (
        "0, GPU-a, [GPU requires reset], [GPU requires reset], Disabled\n"
        "1, [Unknown Error], [GPU is lost], [GPU is lost], [GPU is lost]\n"
        "2, GPU-c, [N/A], [N/A], [N/A]\n3, GPU-d, 81008, 81559, Disabled\n"
    )
    report = parse_gpus(answer)
    assert [gpu.index for gpu in report.gpus] == ["3"]
    assert report.left_out == tuple(
        f"GPU {i}: the driver does not tell its memory ({why})"
        for i, why in enumerate(("[GPU requires reset]", "[GPU is lost]", "[N/A]"))
    )
    pool = DevicePool(lambda: report, "0,3")
    assert pool.choose(LaunchSettings(), (), 0.0).devices == ("GPU-d",)


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
    monkeypatch.setattr("watcher.launch.driver.WSL_FOLDER", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "neither nvidia-ml-py nor nvidia-smi can ask it; install nvidia-ml-py" in ask_driver().problem
