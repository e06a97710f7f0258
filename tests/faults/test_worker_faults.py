"""Rows of part I: the worker dies, hangs, lies, floods; torchrun is missing. Fake worker, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from evalcore.messages import to_json
from tests.faults.fake_worker import measurement
from tests.support.daemon import PYTHON, ROOT, wait_until
from tests.support.tiny import write_tiny

FEW = {"attempts": 2, "backoff_s": 0.0}


@pytest.mark.parametrize("row", ["missing", "not executable", "exits at once"])
def test_row_77_a_torchrun_that_cannot_start_pauses_the_queue_burns_no_attempt_and_heals(site, row):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    wrapper = here.root / "python"
    good = wrapper.read_text()
    wrapper.unlink()
    if row != "missing":
        wrapper.write_text("#!/bin/sh\necho no module named torch >&2\nexit 127\n")
        wrapper.chmod(0o755 if row == "exits at once" else 0o644)
    here.start()
    wait_until(lambda: here.log().count("cannot launch") >= 2)
    wait_until(lambda: here.jobs() == [("step_1.pt", "queued", None, 0, 0)])  # between two attempts to launch
    wait_until(lambda: here.health().get("state") == "paused")
    assert any("torchrun cannot be started" in reason for reason in here.health()["reasons"])
    wrapper.write_text(good)
    wrapper.chmod(0o755)
    here.wait_for_results(1)
    assert here.jobs() == [("step_1.pt", "succeeded", None, 1, 0)]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"do": "exit", "code": 1, "says": "the last words \x1b[31m\udcff"}, "the last words"),
        ({"do": "signal", "number": signal.SIGSEGV}, "SIGSEGV"),
        ({"do": "signal", "number": signal.SIGKILL}, "SIGKILL"),
        ({"do": "signal", "number": signal.SIGBUS}, "SIGBUS"),
        ({"do": "no_outcome"}, "without an outcome"),
    ],
)
def test_row_78_a_worker_that_dies_is_tried_again_and_then_failed_and_spares_the_others(site, rule, words):
    here = site(rules=[{"match": "step_1.pt", **rule}], launch=FEW)
    write_tiny(here.folder / "step_1.pt", 1)
    write_tiny(here.folder / "step_2.pt", 2)
    assert here.once().returncode == 5
    assert list(here.results()) == ["step_2.pt"]
    kind, reason = here.failures()["step_1.pt"]
    assert kind == "crash"
    assert words in reason
    assert "\x1b" not in reason
    assert [job[3] for job in here.jobs() if job[0] == "step_1.pt"] == [2]
    here.assert_sound()


@pytest.mark.parametrize(
    "rule",
    [
        {"do": "hang"},
        {"do": "hang", "ignores_term": True, "ignores_cancel": True},
        {"do": "hang", "spins": True, "ignores_cancel": True},
        {"do": "hang", "stops_itself": True, "ignores_cancel": True},
    ],
)
def test_row_79_a_hanging_worker_is_stopped_and_its_tree_is_gone(site, rule):
    here = site(rules=[rule], launch={**FEW, "attempts": 1, "stall_s": 1.0})
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once(timeout_s=40).returncode == 5
    assert here.failures()["step_1.pt"][0] == "timeout"
    assert here.job_processes() == []


def test_row_79_progress_without_end_is_ended_by_the_wall_clock(site):
    here = site(rules=[{"do": "beat"}], launch={**FEW, "attempts": 1, "timeout_s": 2.0})
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once(timeout_s=40).returncode == 5
    kind, reason = here.failures()["step_1.pt"]
    assert (kind, "timeout_s" in reason) == ("timeout", True)


@pytest.mark.short
def test_row_82_a_process_that_escaped_into_a_session_of_its_own_is_ended_too(site):
    here = site(rules=[{"do": "escape"}])
    write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    here.wait_for_results(1)
    wait_until(lambda: not here.job_processes(), within_s=15)
    wait_until(lambda: here.query("SELECT 1 FROM launches WHERE finished_at IS NOT NULL"))


VALID = json.loads(to_json(measurement("sha256:" + "0" * 64)))


@pytest.mark.parametrize(
    "written",
    [
        "garbage \udcff\x00", '{"attempt": ATTEMPT, "tok', "[1, 2, 3]", "[" * 100_000, "", 1 << 30, "null",
        '{"attempt": ATTEMPT, "token": "TOKEN", "status": "succeeded", "version": 1}',
        '{"attempt": ATTEMPT, "token": "TOKEN", "status": "won", "version": 1}',
        '{"attempt": ATTEMPT, "token": "of another job", "status": "superseded", "version": 1}',
        '{"attempt": 999999, "token": "TOKEN", "status": "superseded", "version": 1}',
        '{"attempt": ATTEMPT, "token": "TOKEN", "status": "superseded", "version": 99}',
        json.dumps({"status": "succeeded", "version": 1, "measurement": {**VALID, "loss": "much"}})
        .replace("{", '{"attempt": ATTEMPT, "token": "TOKEN", ', 1),
        json.dumps({"status": "succeeded", "version": 1, "measurement": VALID})
        .replace("{", '{"attempt": ATTEMPT, "token": "TOKEN", ', 1).replace('"loss": 1.0', '"loss": NaN'),
    ],
)  # fmt: skip
def test_row_84_an_outcome_that_makes_no_sense_is_a_failure_of_kind_protocol(site, written):
    here = site(rules=[{"match": "step_1.pt", "do": "outcome", "bytes": written}], launch=FEW)
    write_tiny(here.folder / "step_1.pt", 1)
    write_tiny(here.folder / "step_2.pt", 2)
    assert here.once().returncode == 5
    assert here.failures()["step_1.pt"][0] == "protocol"
    assert list(here.results()) == ["step_2.pt"]


@pytest.mark.parametrize("says", ["x" * 100 + "\n", "\x1b[2J\udcff\udc80\x00\x07", "no newline at all"])
def test_row_85_86_a_flood_on_stderr_is_capped_never_blocks_and_is_shown_escaped(site, says):
    here = site(rules=[{"do": "flood", "says": says, "total_bytes": 400 << 20}])
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    (launch,) = (here.state / "launches").iterdir()
    assert 1 << 20 <= sum(file.stat().st_size for file in launch.glob("worker.*")) <= 3 << 20
    shown = here.cli("logs", "1")
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "\x00" not in shown.stdout


@pytest.mark.short
def test_row_87_88_a_worker_sees_an_allow_listed_environment_and_three_descriptors(site):
    here = site(rules=[{"do": "dump"}])
    write_tiny(here.folder / "step_1.pt", 1)
    secret = {
        "AWS_SECRET_ACCESS_KEY": "s", "WANDB_API_KEY": "s", "LD_PRELOAD": "", "NOTIFY_SOCKET": "/nowhere",
        "LISTEN_FDS": "1", "RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "x", "TORCHELASTIC_RUN_ID": "x",
        "SLURM_JOB_ID": "1", "LOCAL_RANK": "3", "PYTHONSTARTUP": "x", "CUDA_CACHE_DISABLE": "1", "MASTER_PORT": "1",
    }  # fmt: skip
    done = here.once(**secret)
    assert done.returncode == 0, done.stderr
    dump = json.loads((here.notes / "dump.json").read_text())
    assert set(secret) & set(dump["env"]) == {"CUDA_CACHE_DISABLE"}
    assert "PYTHONPATH" not in dump["env"]
    foreign = {fd: to for fd, to in dump["fds"].items() if int(fd) > 2 and "/proc/" not in to}
    assert foreign == {}, dump["fds"]
    assert dump["nice"] >= 10
    assert "Max core file size        0" in dump["limits"]
    assert str(here.database) not in dump["env"].values()


def test_row_90_a_late_answer_of_a_fenced_attempt_is_rejected(site):
    """The worker answers within the grace of the stop that follows its job's cancellation."""
    here = site(rules=[{"do": "answer", "pause_s": 3, "tries": 1, "ignores_term": True, "ignores_cancel": True}])
    write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE started_at IS NOT NULL"))
    assert here.cli("queue", "cancel", "1").returncode == 0
    wait_until(lambda: here.jobs()[0][1] == "cancelled")
    wait_until(lambda: "a late outcome" in here.log())
    wait_until(lambda: here.query("SELECT 1 FROM attempts WHERE outcome IS NOT NULL"))
    assert here.results() == {}
    assert here.jobs() == [("step_1.pt", "cancelled", "by_user", 0, 0)]
    assert here.cli("queue", "retry", "1").returncode == 0
    here.wait_for_results(1)
    here.assert_sound()


def test_a_cancelled_job_in_hand_frees_the_device_and_the_others_wait_again_uncharged(site):
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False)
    for step in (1, 2):
        save_rosellm(here.folder / f"step_{step}.pt", step=step, seed=step)
    here.start(CKPTWATCH_WORKER_FAILPOINT="mid_eval:hang")
    in_hand = "SELECT job_id, launch_id FROM attempts WHERE started_at IS NOT NULL AND outcome IS NULL"
    for _ in range(2):
        ((job, launch),) = wait_until(lambda: here.query(in_hand), within_s=60)
        assert here.cli("queue", "cancel", str(job)).returncode == 0
        ended = ("SELECT 1 FROM launches WHERE id = ? AND finished_at IS NOT NULL", launch)
        wait_until(lambda ended=ended: here.query(*ended))
    wait_until(lambda: not here.job_processes())
    assert sorted(here.jobs()) == [(f"step_{n}.pt", "cancelled", "by_user", 0, 0) for n in (1, 2)]
    assert here.query("SELECT count(*) FROM launches") == [(2,)]
    assert set(here.query("SELECT outcome, charged FROM attempts")) == {("released", 0)}
    here.assert_sound()


def test_a_cancelled_job_that_its_launch_has_not_begun_is_left_out_without_a_restart(site):
    rules = [{"match": "step_9.pt", "do": "answer", "pause_s": 4}, {"do": "answer"}]
    here = site(rules=rules, launch={"linger_s": 5.0})
    for step in (1, 9):
        write_tiny(here.folder / f"step_{step}.pt", step)
    os.utime(here.folder / "step_1.pt", (1, 1))  # the newest is taken first
    here.start()
    both = "SELECT 1 FROM attempts GROUP BY launch_id HAVING count(*) = 2 AND count(started_at) = 1"
    wait_until(lambda: here.query(both))
    waiting = here.query("SELECT j.id FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id WHERE c.step = 1")[0][0]
    assert here.cli("queue", "cancel", str(waiting)).returncode == 0
    assert list(here.wait_for_results(1)) == ["step_9.pt"]
    write_tiny(here.folder / "step_10.pt", 10)
    assert list(here.wait_for_results(2)) == ["step_9.pt", "step_10.pt"]
    assert here.query("SELECT count(*) FROM launches") == [(1,)]
    assert {job[:2] for job in here.jobs() if job[1] != "succeeded"} == {("step_1.pt", "cancelled")}
    tried = {bytes.fromhex(path.name.rsplit("-", 1)[1]).decode() for path in here.notes.glob("tried-*")}
    assert tried == {"step_9.pt", "step_10.pt"}
    assert here.stop() == 0


def test_row_91_gpu_tools_that_talk_nonsense_leave_the_cpu(site):
    for script in ("#!/bin/sh\necho 'a, b, c, d'\n", "#!/bin/sh\nexit 9\n"):
        here = site(launch={"device": "auto"})
        tools = here.root / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "nvidia-smi").write_text(script)
        (tools / "nvidia-smi").chmod(0o755)
        write_tiny(here.folder / f"step_{len(script)}.pt", len(script))
        assert here.once(PATH=f"{tools}:{os.environ['PATH']}").returncode == 0
    assert {row[0] for row in here.query("SELECT device FROM launches")} == {"cpu"}


def test_row_91_a_gpu_tool_that_hangs_is_waited_for_and_with_a_fallback_the_cpu_is_used(site):
    here = site(launch={"device": "auto"})
    tools = here.root / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools / "nvidia-smi").chmod(0o755)
    write_tiny(here.folder / "step_1.pt", 1)
    path = f"{tools}:{os.environ['PATH']}"
    daemon = here.start(PATH=path)
    wait_until(lambda: "waiting for a device" in here.log() and "does not answer" in here.log())
    assert here.jobs() == [("step_1.pt", "queued", None, 0, 0)]
    here.stop(daemon)
    here.launch = {"device": "auto", "fallback": "cpu"}
    here.configure()
    assert here.once(PATH=path).returncode == 0
    assert {row[0] for row in here.query("SELECT device FROM launches")} == {"cpu"}


def test_row_91_a_gpu_below_the_reserve_is_waited_for_with_the_reason(site):
    here = site(launch={"device": "cuda", "reserve_bytes": 8 << 30})
    tools = here.root / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-1, 1000, 80000'\n")
    (tools / "nvidia-smi").chmod(0o755)
    write_tiny(here.folder / "step_1.pt", 1)
    here.start(PATH=f"{tools}:{os.environ['PATH']}")
    wait_until(lambda: "waiting for a device" in here.log())
    wait_until(lambda: here.health().get("state") == "degraded")
    assert here.jobs() == [("step_1.pt", "queued", None, 0, 0)]


def test_row_92_out_of_memory_is_tried_again_and_then_told_as_oom(site):
    here = site(rules=[{"do": "fail", "kind": "oom", "tries": 1}], launch=FEW)
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    assert here.query("SELECT kind, charged FROM attempts ORDER BY id") == [("oom", 1), (None, 1)]


def test_row_26_a_loss_beyond_what_exp_can_hold_is_a_result(site):
    here = site(rules=[{"do": "answer", "values": {"loss": 1000.0, "ppl": None, "note": "ppl overflows"}}])
    write_tiny(here.folder / "step_1.pt", 1)
    assert here.once().returncode == 0
    assert here.query("SELECT loss, ppl, finite, note FROM results") == [(1000.0, None, 1, "ppl overflows")]


def test_row_30_validation_data_that_goes_away_pauses_the_queue_and_burns_nothing(site):
    here = site()
    here.start()
    content = here.data.read_bytes()
    here.data.unlink()
    write_tiny(here.folder / "step_1.pt", 1)
    wait_until(lambda: here.health().get("state") == "paused")
    assert "validation data" in here.health()["reasons"][0]
    here.wait_for_job("queued")  # the daemon may have been paused before the file had settled
    assert here.jobs() == [("step_1.pt", "queued", None, 0, 0)]
    here.data.write_bytes(content)
    here.wait_for_results(1)


LOOPBACK_ALONE = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP_RUNNING))
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_row_93_without_a_network_a_tokenizer_that_is_not_there_is_told_with_its_remedy_and_not_tried_again(site):
    """In a network namespace of its own with nothing but the loopback; a real worker."""
    from tests.support.checkpoints import save_rosellm

    alone = ("unshare", "--user", "--map-root-user", "--net", PYTHON, "-c", LOOPBACK_ALONE)
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    here = site(fake=False)
    (here.root / "val.txt").write_text("a few words of text " * 20)
    settings = here.config.read_text()
    mine, store = settings.split("[[eval]]")[0], settings.split("[store]")[1]
    asked = f'[[eval]]\nname = "val"\ndata = ["{here.root / "val.txt"}"]\nseq_len = 16\ntokenizer = "gpt2"\n'
    here.config.write_text(f"{mine}{asked}[store]{store}")
    for step in (1, 2):
        save_rosellm(here.folder / f"step_{step}.pt", step=step, seed=step)
    nowhere = {"TIKTOKEN_CACHE_DIR": str(here.root / "ranks"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*alone, *here.command("run", "--once")], cwd=here.root, env={**os.environ, **nowhere},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert here.jobs() == [(f"step_{step}.pt", "failed", "data", 1, 0) for step in (1, 2)]
    assert "cannot be fetched" in here.failures()["step_1.pt"][1]
    assert all("TIKTOKEN_CACHE_DIR" in hint for (hint,) in here.query("SELECT hint FROM jobs"))
    assert here.query("SELECT count(*) FROM launches") == [(1,)]


@pytest.mark.parametrize("how", ["in place", "by rename", "in place and back"])
def test_row_30_validation_data_that_changes_while_it_is_measured_gives_no_number_under_the_wrong_digest(site, how):
    """A real worker maps the token file; its launch is held in the middle of the evaluation while the file changes."""
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False)
    save_rosellm(here.folder / "step_1.pt", step=1)
    here.start(CKPTWATCH_WORKER_FAILPOINT="mid_eval:sleep1")
    wait_until(lambda: any("evaluating" in p.read_text() for p in here.state.glob("launches/*/progress.json")), 60)
    before = here.data.read_bytes()
    after = before[len(before) // 2 :] + before[: len(before) // 2]
    if how == "by rename":
        other = here.root / "other.bin"
        other.write_bytes(after)
        os.replace(other, here.data)
    else:
        for content in (after, before) if how == "in place and back" else (after,):
            with open(here.data, "r+b") as file:
                file.write(content)
    rows = here.wait_for_results(1, within_s=90)
    assert here.stop() == 0
    assert here.query("SELECT outcome, charged FROM attempts ORDER BY id") == [("orphaned", 0), ("succeeded", 1)]
    sets = here.query("SELECT current FROM eval_sets ORDER BY id")
    assert sets == ([(1,)] if how == "in place and back" else [(0,), (1,)])
    again = type(here)(here.root, fake=False, store={"url": str(here.root / "again.db")})
    assert again.once().returncode == 0
    assert again.results() == {path: pytest.approx(losses, rel=1e-9) for path, losses in rows.items()}
    assert again.query("SELECT eval_digest FROM results") == here.query("SELECT eval_digest FROM results")
    assert {job[1:3] for job in here.jobs()} <= {("succeeded", None), ("cancelled", "superseded")}
    here.assert_sound()


def test_row_94_no_zombie_is_left_of_many_launches(site):
    here = site(rules=[{"do": "escape"}], launch={"linger_s": 0.0})
    daemon = here.start()
    for step in range(1, 7):
        write_tiny(here.folder / f"step_{step}.pt", step)
        here.wait_for_results(step)
        wait_until(lambda: not here.query("SELECT 1 FROM launches WHERE finished_at IS NULL"))
    children = open(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read().split()
    assert children == []


def test_row_83_one_of_two_real_ranks_dies_and_the_launch_fails_as_a_whole(site):
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False, launch={"nproc": 2, "attempts": 1})
    save_rosellm(here.folder / "step_1.pt", step=1)
    done = here.once(CKPTWATCH_WORKER_FAILPOINT="mid_eval@1:kill9")
    assert done.returncode == 5, done.stderr
    assert here.failures()["step_1.pt"][0] == "crash"
    assert here.job_processes() == []


def test_row_31_89_two_real_launches_at_once_and_two_ranks_give_the_number_of_one(site):
    from tests.support.checkpoints import save_rosellm

    here = site(fake=False, launch={"max_launches": 2})
    for step in (1, 2, 3, 4):
        save_rosellm(here.folder / f"step_{step}.pt", step=step, seed=step)
    assert here.once().returncode == 0
    one = here.results()
    again = type(here)(here.root, fake=False, launch={"nproc": 2}, store={"url": str(here.root / "two.db")})
    assert again.once().returncode == 0
    two = again.results()
    assert {path: pytest.approx(losses, rel=1e-6) for path, losses in one.items()} == two
    assert again.query("SELECT DISTINCT world_size FROM results") == [(2,)]
