"""Launches through a real Slurm: results, pre-emption, time limits; jobs cancelled, lost, unstartable; dead daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.slurm_cluster import Cluster
from tests.support.checkpoints import save_rosellm
from tests.support.daemon import Site
from tests.support.tiny import write_tiny
from tests.support.waiting import wait_until
from watcher.domain.timestamps import seconds
from watcher.launch.logs import HEAD_BYTES, TAIL_BYTES

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    try:
        yield started
    finally:
        started.close()


class SlurmSite(Site):
    """A site whose jobs are Slurm's; `slurm` is the section [launch.slurm]."""

    slurm: dict[str, Any]
    cluster: Cluster

    def configure(self) -> None:
        self.launch = {"executor": "slurm", "nproc": 1, **self.launch}
        super().configure()
        lines = "".join(f"{key} = {value!r}\n" for key, value in getattr(self, "slurm", {}).items())
        with open(self.config, "a") as file:
            file.write(f"[launch.slurm]\n{lines}".replace("'", '"'))

    def run_daemon(self, **env: str) -> None:
        self.start(SLURM_CONF=str(self.cluster.conf), **env)

    def number(self) -> str:
        return str(wait_until(lambda: self.query("SELECT external_id FROM launches ORDER BY started_at DESC")[0][0]))

    def wait_for_rows(self, count: int, within_s: float = 90) -> None:
        wait_until(lambda: len(self.results()) == count, within_s, self.log())

    def attempts(self) -> list[tuple]:
        return self.query("SELECT outcome, kind, charged, reason FROM attempts ORDER BY id")


@pytest.fixture
def site(cluster, tmp_path) -> Iterator[SlurmSite]:
    made = SlurmSite(tmp_path)
    made.slurm, made.cluster = {}, cluster
    yield made
    made.end()
    cluster.call("scancel", "--user=root")
    wait_until(lambda: not cluster.call("squeue", "-h").strip(), 30, "the cluster is idle again")


def setup(site: SlurmSite, *rules: dict[str, Any], launch: dict[str, Any] | None = None, **slurm: Any) -> None:
    site.rules, site.slurm = list(rules), slurm
    site.launch |= launch or {}
    site.configure()


def running(site: SlurmSite) -> str:
    """The number of the site's job once its worker has started on a checkpoint."""
    wait_until(lambda: "evaluating" in site.log(), 60, site.log())
    return site.number()


def test_a_real_two_rank_torchrun_job_gives_the_row_within_seconds_of_its_end(cluster, site):
    site.fake = False
    setup(site, launch={"nproc": 2, "python": Path(site.command()[0])})
    save_rosellm(site.folder / "step_20.pt", step=20)
    site.run_daemon()
    site.wait_for_rows(1, 120)
    assert site.query("SELECT step, tokens, world_size FROM results") == [(20, 199, 2)]
    folder = next((site.state / "launches").iterdir())
    ended = wait_until(lambda: (folder / "ended").exists() and folder / "ended", 30, "the job's end")
    assert ended.read_text().strip() == "0"
    at = site.query("SELECT evaluated_at FROM results")[0][0]
    assert seconds(at) <= ended.stat().st_mtime + 3
    number = site.number()
    wait_until(lambda: (number, "COMPLETED") in [job[:2] for job in cluster.jobs()], why="Slurm says the same")


def test_two_nodes_meet_by_rendezvous_and_give_the_number_of_one(cluster, site):
    site.fake = False
    setup(site, launch={"python": Path(site.command()[0])}, nodes=2)
    save_rosellm(site.folder / "step_20.pt", step=20)
    site.run_daemon()
    site.wait_for_rows(1, 120)
    assert site.query("SELECT world_size, tokens FROM results") == [(2, 199)]
    assert cluster.call("squeue", "-h", "--states=all", f"--jobs={site.number()}", "-o", "%D").strip() == "2"
    two = site.query("SELECT loss FROM results")[0][0]
    assert site.stop() == 0
    site.launch["executor"], site.database = "local", site.root / "alone.db"
    site.store["url"] = site.database
    site.configure()
    assert site.once().returncode == 0
    assert site.query("SELECT world_size, loss FROM results") == [(1, pytest.approx(two, rel=1e-6))]


def test_a_daemon_that_was_killed_finds_its_job_again_and_submits_nothing_twice(cluster, site):
    setup(site, {"match": "*", "do": "answer", "pause_s": 6})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    number = running(site)
    site.kill()
    site.run_daemon()
    site.wait_for_rows(1)
    ours = [job for job in cluster.jobs() if job[2].startswith("ckptwatch-") and int(job[0]) >= int(number)]
    assert [job[0] for job in ours] == [number]
    assert site.attempts() == [("succeeded", None, 1, None)]
    assert site.stop() == 0


def test_a_daemon_that_was_killed_before_it_noted_the_number_finds_the_job_by_its_name(cluster, site):
    setup(site, {"match": "*", "do": "answer", "pause_s": 3})
    write_tiny(site.folder / "step_1.pt", 1)
    before = len(cluster.jobs())
    site.start(wait=False, SLURM_CONF=str(cluster.conf), CKPTWATCH_FAILPOINT="after_spawn:kill9")
    assert site.started[-1].wait(60) == -9
    assert site.query("SELECT external_id FROM launches") == [(None,)]
    site.run_daemon()
    site.wait_for_rows(1)
    assert len(cluster.jobs()) == before + 1
    assert [attempt[0] for attempt in site.attempts()] == ["succeeded"]


def test_a_daemon_that_stops_in_good_order_leaves_its_job_alone_and_takes_it_up_again(cluster, site):
    setup(site, {"match": "*", "do": "answer", "pause_s": 6})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    number = running(site)
    assert site.stop() == 0
    assert (number, "RUNNING") in [(job, state) for job, state, _ in cluster.jobs()]
    site.run_daemon()
    site.wait_for_rows(1)
    assert site.attempts() == [("succeeded", None, 1, None)]


def test_a_pre_empted_job_is_tried_again_uncharged(cluster, site):
    setup(site, {"match": "*", "do": "hang", "tries": 1}, partition="main")
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    running(site)
    cluster.call("sbatch", "--partition=first", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
    site.wait_for_rows(1)
    assert [(outcome, charged) for outcome, _, charged, _ in site.attempts()] == [("orphaned", 0), ("succeeded", 1)]


def test_a_job_that_somebody_cancels_is_charged_and_tried_again(cluster, site):
    setup(site, {"match": "*", "do": "hang", "tries": 1})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    cluster.call("scancel", running(site))
    site.wait_for_rows(1)
    assert len(site.attempts()) == 2, f"{site.attempts()} {site.log()} {cluster.jobs()}"
    first, second = site.attempts()
    assert first[:3] == ("failed", "crash", 1)
    assert "CANCELLED" in first[3]
    assert second[0] == "succeeded"


def test_a_job_past_its_time_limit_is_a_timeout(cluster, site):
    setup(site, {"match": "*", "do": "beat"}, launch={"attempts": 1}, time="00:01:00")
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    running(site)
    wait_until(site.failures, 180, site.log())
    kind, reason = site.failures()["step_1.pt"]
    assert kind == "timeout"
    assert "TIMEOUT" in reason


def test_a_job_that_takes_more_memory_than_it_asked_for_is_out_of_memory(cluster, site):
    if not cluster.limits_memory:
        pytest.skip("this machine has no memory control group of the first version: its Slurm cannot limit memory")
    setup(site, {"match": "*", "do": "eat", "bytes": 400 << 20}, launch={"attempts": 1}, extra=["--mem=100M"])
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    wait_until(site.failures, 60, site.log())
    kind, reason = site.failures()["step_1.pt"]
    assert kind == "oom"
    assert "OUT_OF_MEMORY" in reason
    assert (site.number(), "OUT_OF_MEMORY") in [job[:2] for job in cluster.jobs()]


def test_a_flood_of_output_costs_two_megabytes_and_keeps_both_ends(cluster, site):
    setup(site, {"match": "*", "do": "flood", "says": "noise\n", "total_bytes": 8 << 20})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    site.wait_for_rows(1)
    folder = next((site.state / "launches").iterdir())
    wait_until((folder / "ended").exists, 30, site.log())
    sizes = {path.name: path.stat().st_size for path in folder.glob("worker.*")}
    assert sizes["worker.log"] >= HEAD_BYTES
    assert 3 * HEAD_BYTES // 2 <= sum(sizes.values()) <= HEAD_BYTES + TAIL_BYTES + (1 << 16)
    assert "was not kept" in site.cli("logs", "1").stdout


def test_rows_and_failures_follow_the_end_of_their_jobs_within_three_seconds(cluster, site, capsys):
    setup(site, {"match": "step_5.pt", "do": "exit", "code": 3}, launch={"attempts": 1})
    site.run_daemon()
    for step in range(1, 6):
        write_tiny(site.folder / f"step_{step}.pt", step)
        ended = "SELECT count(*) FROM launches WHERE finished_at IS NOT NULL"
        wait_until(lambda: site.query(ended) == [(step,)], 60, site.log())  # in turn: each has a job of its own
    seen = dict(site.query("SELECT launch_id, finished_at FROM attempts"))
    ends = {launch: (site.state / "launches" / launch / "ended").stat().st_mtime for launch in seen}
    late_s = sorted(seconds(seen[launch]) - ends[launch] for launch in seen)
    with capsys.disabled():
        print(f"\nrow or failure after its job's end, s: {', '.join(f'{late:.2f}' for late in late_s)}")
    assert len(late_s) == 5
    assert late_s[-1] <= 3


def test_a_job_that_cannot_be_submitted_charges_nothing_and_says_why(cluster, site):
    setup(site, partition="nowhere")
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    wait_until(lambda: "cannot launch: sbatch" in site.log(), 60, site.log())
    assert "artition" in site.log()
    wait_until(lambda: site.jobs() == [("step_1.pt", "queued", None, 0, 0)], why="the job waits, uncharged")


def test_a_job_that_waits_for_a_machine_is_not_taken_for_a_stalled_one(cluster, site):
    setup(site, launch={"stall_s": 1.0})
    cluster.call("sbatch", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 6")
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    site.wait_for_rows(1)
    assert [attempt[0] for attempt in site.attempts()] == ["succeeded"]


def test_a_job_that_slurm_has_lost_is_tried_again_uncharged(cluster, site):
    setup(site, {"match": "*", "do": "hang", "tries": 1})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    running(site)
    cluster.stop_controller()
    cluster.start_controller("-c")
    site.wait_for_rows(1, 120)
    assert [(outcome, charged) for outcome, _, charged, _ in site.attempts()] == [("orphaned", 0), ("succeeded", 1)]


def test_a_controller_that_is_away_for_a_while_costs_nothing(cluster, site):
    setup(site, {"match": "*", "do": "answer", "pause_s": 3})
    write_tiny(site.folder / "step_1.pt", 1)
    site.run_daemon()
    running(site)
    cluster.stop_controller()
    try:
        site.wait_for_rows(1)
    finally:
        cluster.start_controller()
    assert site.attempts() == [("succeeded", None, 1, None)]


def test_several_launches_run_at_once_up_to_the_bound(cluster, site):
    setup(site, {"match": "*", "do": "answer", "pause_s": 2}, launch={"max_launches": 2})
    for step in range(1, 9):
        write_tiny(site.folder / f"step_{step}.pt", step)
    site.run_daemon()
    site.wait_for_rows(8, 120)
    wait_until(lambda: site.query("SELECT 1 FROM launches WHERE finished_at IS NULL") == [], why="all launches ended")
    spans = site.query("SELECT started_at, finished_at FROM launches")
    at_once = [sum(begun <= at < over for begun, over in spans) for at, _ in spans]
    assert max(at_once) == 2
    site.assert_sound()
