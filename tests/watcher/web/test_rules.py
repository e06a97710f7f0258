"""The dashboard's pure rules: health, series, words, commands, metrics text."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from evalcore.messages import EvalSetSpec, to_json
from watcher.domain.health import LockFacts, LockState
from watcher.domain.timestamps import iso
from watcher.errors import ConfigError
from watcher.report.prometheus import Family, exposition
from watcher.web import reproduce
from watcher.web.chart_data import series_of
from watcher.web.health import page_health
from watcher.web.server import refuse_remote

NOW_S = 1_800_000_000.0
HELD, FREE = LockFacts(LockState.HELD), LockFacts(LockState.FREE)
SCANNED = {"at": iso(NOW_S - 1), "state": "ok", "reasons": [], "runs": [{"name": "r", "last_scan_age_s": 1.0}]}


def test_a_daemon_that_spoke_a_moment_ago_is_healthy_and_ready():
    health = page_health(SCANNED, HELD, None, NOW_S)
    assert (health.ok, health.state, health.ready) == (True, "ok", True)


@pytest.mark.parametrize(
    ("said", "lock", "database", "state", "word"),
    [
        (SCANNED, FREE, None, "down", "no daemon runs"),
        (None, FREE, None, "down", "no daemon runs"),
        ({**SCANNED, "at": iso(NOW_S - 300)}, HELD, None, "stalled", "300 s ago"),
        ({**SCANNED, "state": "paused", "reasons": ["disk full"]}, HELD, None, "paused", "disk full"),
        (SCANNED, HELD, "the database is locked", "degraded", "locked"),
        (SCANNED, LockFacts(LockState.UNREADABLE, "/s/lock"), None, "unknown", "permission denied: /s/lock"),
    ],
)
def test_health_goes_bad_with_a_reason(said, lock, database, state, word):
    health = page_health(said, lock, database, NOW_S)
    assert health.state == state and not health.ok
    assert any(word in reason for reason in health.reasons)


def test_a_daemon_is_not_ready_before_its_first_scan():
    assert not page_health({**SCANNED, "runs": [{"name": "r", "last_scan_age_s": None}]}, HELD, None, NOW_S).ready


def curve(count: int) -> dict:
    losses: list[float | None] = [2 + ((i * 7919) % 1000) / 1000 for i in range(count)]
    losses[count // 2] = None
    columns = {"id": list(range(count)), "step": list(range(count)), "loss": losses, "tokens_seen": [None] * count}
    columns |= {"saved_at": [iso(NOW_S + i) for i in range(count)], "finite": [int(v is not None) for v in losses]}
    columns |= {"loss_stderr": [0.1] * count, "logged_val_loss": [None] * count}
    columns |= {"dtype": ["float32"] * count, "seq_len": [64] * count}
    return {"run_id": 1, "run": "r", "eval_set": "v", "columns": columns}


def test_a_short_curve_is_kept_whole_and_marks_its_best():
    (series,) = series_of([curve(50)])
    assert series["shown"] == series["results"] == 50
    at = series["id"].index(series["best_id"])
    assert series["loss"][at] == min(value for value in series["loss"] if value is not None)
    assert series["saved_s"][1] == NOW_S + 1


def test_a_long_curve_is_thinned_but_keeps_extremes_the_best_the_last_and_the_diverged():
    whole = curve(40_000)
    (series,) = series_of([whole], points_max=500)
    assert series["shown"] <= 505 and series["results"] == 40_000
    assert {39_999, series["best_id"], 20_000} <= set(series["id"])
    losses = [value for value in whole["columns"]["loss"] if value is not None]
    shown = [value for value in series["loss"] if value is not None]
    assert (min(shown), max(shown)) == (min(losses), max(losses))
    assert series["id"] == sorted(series["id"])


def test_a_curve_whose_rows_were_measured_differently_says_so():
    mixed = curve(4)
    mixed["columns"]["dtype"][1] = "bfloat16"
    (series,) = series_of([mixed])
    assert series["mixed"] and series["resolved"] == ["bfloat16, 64 tokens", "float32, 64 tokens"]


def test_the_command_to_reproduce_quotes_hostile_names_and_gives_resolved_values():
    spec = to_json(EvalSetSpec("v", ("/d/a b.txt", "/d/$(x).txt"), tokenizer="gpt2", max_tokens=5000, stride=32))
    result = {"seq_len": 64, "stride": 32, "dtype": "bfloat16", "device": "cuda", "world_size": 2, "batch_size": 8}
    command = reproduce.command({"dir": "/runs", "path": "it's; rm -rf.pt"}, spec, result)
    assert shlex.split(command) == [
        *("ckptwatch", "eval", "/runs/it's; rm -rf.pt", "--data", "/d/a b.txt", "--data", "/d/$(x).txt"),
        *("--tokenizer", "gpt2", "--seq-len", "64", "--stride", "32", "--max-tokens", "5000", "--dtype", "bfloat16"),
        *("--device", "cuda", "--nproc", "2", "--batch-size", "8"),
    ]


def test_a_name_that_a_page_cannot_show_is_escaped_so_that_bash_reads_it_back():
    command = reproduce.command({"dir": "/r", "path": "a\u202e'\\\n.pt"}, to_json(EvalSetSpec("v", ("/d.txt",))))
    assert command.isprintable()
    told = subprocess.run(["bash", "-c", f"printf %s {command.split()[2]}"], capture_output=True, text=True, check=True)
    assert told.stdout == "/r/a\u202e'\\\n.pt"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_listening_beyond_loopback_needs_a_word(host):
    with pytest.raises(ConfigError, match="no passwords") as caught:
        refuse_remote(host, False)
    assert "allow_remote" in caught.value.hint
    assert refuse_remote(host, True) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_none(host):
    assert refuse_remote(host, False) is None


def test_metric_labels_and_values_are_spelt_as_the_format_asks():
    family = Family("m", "a help\nin two lines")
    family.add(float("nan"), run='a"b\\c\nd')
    family.add(None, run="left out")
    family.add(float("inf"))
    assert exposition([family, Family("empty", "no samples")]) == (
        '# HELP m a help\\nin two lines\n# TYPE m gauge\nm{run="a\\"b\\\\c\\nd"} NaN\nm +Inf\n'
    )
