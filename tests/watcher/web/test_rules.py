"""The dashboard's pure rules: health, series, words, commands, metrics text."""

from __future__ import annotations

import json
import math
import shlex
import subprocess

import pytest

from evalcore.messages import EvalSetSpec, to_json
from watcher.domain.health import LockFacts, LockState
from watcher.domain.timestamps import iso
from watcher.errors import ConfigError
from watcher.report.metrics import METRICS
from watcher.report.palette import DARK, LIGHT, place_of
from watcher.report.prometheus import Family, exposition
from watcher.web import reproduce
from watcher.web.chart_data import series_json
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


def columns(count: int) -> dict:
    losses: list[float | None] = [2 + ((i * 7919) % 1000) / 1000 for i in range(count)]
    losses[count // 2] = None
    made = {"id": list(range(count)), "step": list(range(count)), "loss": losses, "tokens_seen": [None] * count}
    made |= {"saved_at": [iso(NOW_S + 3600 * i) for i in range(count)], "finite": [int(v is not None) for v in losses]}
    return {**made, "loss_stderr": [0.1] * count, "ppl": [v and math.exp(v) for v in losses]}


def series(count: int, x: str = "step", metric: str = "loss", points: int = 2000, span=None) -> dict:
    return json.loads(series_json(columns(count), METRICS[metric], x, points, span))


def test_a_short_curve_is_kept_whole_with_its_band_and_its_diverged_point():
    one = series(50)
    assert one["n"] == 49 and one["x"] == [at for at in range(50) if at != 25]
    assert one["bad"] == [[25, 25]]
    assert (one["low"][0], one["high"][0]) == (pytest.approx(2 - 0.196, abs=1e-4), pytest.approx(2 + 0.196, abs=1e-4))
    assert series(50, "hours")["x"][:3] == [0, 1, 2]
    assert series(50, "time")["x"][1] == NOW_S + 3600
    assert series(50, "tokens")["x"] == [] and series(50, "tokens")["bad"] == []


def test_the_band_of_a_perplexity_is_the_exponential_of_the_loss_band():
    one = series(3, metric="ppl")
    assert one["low"][0] == pytest.approx(math.exp(2 - 0.19600), rel=1e-4)
    assert one["high"][0] == pytest.approx(math.exp(2 + 0.19600), rel=1e-4)


def test_a_long_curve_is_thinned_but_keeps_extremes_first_last_and_the_diverged():
    whole, one = columns(40_000), series(40_000, points=500)
    assert len(one["x"]) <= 505 and one["n"] == 39_999
    assert {0, 39_999} <= set(one["id"]) and one["bad"] == [[20_000, 20_000]]
    losses = [value for value in whole["loss"] if value is not None]
    assert (min(one["y"]), max(one["y"])) == (min(losses), max(losses))
    assert one["x"] == sorted(one["x"])


def test_a_part_of_a_curve_comes_with_its_neighbours_and_all_of_its_points():
    one = series(40_000, points=500, span=(1000.5, 1100.5))
    assert one["x"] == list(range(1000, 1102))


def test_colours_belong_to_a_run_and_at_least_twenty_are_told_apart():
    assert len(set(LIGHT)) == len(set(DARK)) == 24
    assert place_of(7) == (6, 0) and place_of(7 + 24) == (6, 1)
    for colours in (LIGHT, DARK):
        apart = [math.dist(oklab(one), oklab(other)) for n, one in enumerate(colours) for other in colours[:n]]
        assert min(apart) > 0.07
    assert min(contrast(colour, "#ffffff") for colour in LIGHT) >= 3
    assert min(contrast(colour, "#181e26") for colour in DARK) >= 3


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, relative luminance."""
    lights = sorted(sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear(c), strict=True)) for c in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def oklab(colour: str) -> tuple[float, float, float]:
    """Ottosson, "A perceptual color space for image processing" (2020)."""
    r, g, b = linear(colour)
    cones = ((0.4122, 0.5363, 0.0514), (0.2119, 0.6807, 0.1074), (0.0883, 0.2817, 0.6300))
    long, middle, short = ((row[0] * r + row[1] * g + row[2] * b) ** (1 / 3) for row in cones)
    lightness = 0.2105 * long + 0.7936 * middle - 0.0041 * short
    green_red = 1.9780 * long - 2.4286 * middle + 0.4506 * short
    return lightness, green_red, 0.0259 * long + 0.7828 * middle - 0.8087 * short


def test_the_command_to_reproduce_quotes_hostile_names_and_gives_resolved_values():
    more = {"seq_len": 64, "stride": 32, "dtype": "bfloat16"}
    spec = to_json(EvalSetSpec("v", ("/d/a b.txt", "/d/$(x).txt"), tokenizer="gpt2", max_tokens=5000, **more))
    result = {"seq_len": 64, "stride": 32, "dtype": "bfloat16", "device": "cuda", "world_size": 2, "batch_size": 8}
    command = reproduce.command({"dir": "/runs", "path": "it's; rm -rf.pt"}, spec, reproduce.ModelFlags(), result)
    assert shlex.split(command) == [
        *("ckptwatch", "eval", "/runs/it's; rm -rf.pt", "--data", "/d/a b.txt", "--data", "/d/$(x).txt"),
        "--one-set",
        *("--tokenizer", "gpt2", "--seq-len", "64", "--stride", "32", "--max-tokens", "5000", "--dtype", "bfloat16"),
        *("--device", "cuda", "--nproc", "2", "--batch-size", "8", "--db", "reproduce.db", "--again"),
    ]


def test_a_name_that_a_page_cannot_show_is_escaped_so_that_bash_reads_it_back():
    command = reproduce.command(
        {"dir": "/r", "path": "a\u202e'\\\n.pt"}, to_json(EvalSetSpec("v", ("/d.txt",))), reproduce.ModelFlags()
    )
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
def test_listening_on_loopback_needs_no_permission(host):
    assert refuse_remote(host, False) is None


def test_metric_labels_and_values_are_spelt_as_the_format_asks():
    family = Family("m", "a help\nin two lines")
    family.add(float("nan"), run='a"b\\c\nd')
    family.add(None, run="left out")
    family.add(float("inf"))
    assert exposition([family, Family("empty", "no samples")]) == (
        '# HELP m a help\\nin two lines\n# TYPE m gauge\nm{run="a\\"b\\\\c\\nd"} NaN\nm +Inf\n'
    )
