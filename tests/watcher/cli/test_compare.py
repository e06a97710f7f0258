"""`ckptwatch compare`: two steps, two runs, and what is said where the set cannot tell them apart."""

from __future__ import annotations

import random

from tests.support.database import Database, small_run

TARGETS = [64] * 80 + [10]


def trained(path, effects: dict[str, dict[int, float]]) -> Database:
    """Runs on one set; every checkpoint's nats are the windows' own difficulty, an effect, and a little noise."""
    database = Database(path)
    chance = random.Random(12)
    hard = [n * chance.uniform(1, 5) for n in TARGETS]
    for run, steps in effects.items():
        database.run(run)
        database.eval_set(run)
        for step, effect in steps.items():
            nats = [h + n * (effect + chance.gauss(0, 0.05)) for h, n in zip(hard, TARGETS, strict=True)]
            database.result(step, None, run=run, windows=nats, targets=TARGETS, loss_stderr=0.2)
    return database


def test_two_steps_are_compared_window_by_window(ckptwatch, tmp_path):
    trained(tmp_path / "r.db", {"gpt": {100: 0.1, 200: 0.0, 300: 0.0005}})
    one = ckptwatch("compare", 100, 200, "--json", "--db", tmp_path / "r.db").json[0]
    assert (one["method"], one["windows"], one["significant"]) == ("paired", 81, True)
    assert one["low"] < -0.1 < one["high"] < 0
    assert one["verdict"] == "step 200 is better"
    text = ckptwatch("compare", 200, 300, "--db", tmp_path / "r.db").out
    assert "no significant difference on this set" in text


def test_two_runs_are_compared_at_the_steps_both_have(ckptwatch, tmp_path):
    trained(tmp_path / "r.db", {"a": {100: 0.5, 200: 0.2, 300: 0.1}, "b": {200: 0.1, 300: 0.1, 400: 0.0}})
    found = ckptwatch("compare", "a", "b", "--json", "--db", tmp_path / "r.db").json
    assert [(one["a"]["step"], one["b"]["step"]) for one in found] == [(200, 200), (300, 300)]
    assert found[0]["verdict"] == "b is better"
    verdicts = ckptwatch("compare", "a", "b", "--db", tmp_path / "r.db").out.splitlines()[-2:]
    assert [line.split(": ")[0] for line in verdicts] == ["val at step 200", "val at step 300"]


def test_run_at_step_names_one_checkpoint_exactly(ckptwatch, tmp_path):
    trained(tmp_path / "r.db", {"a": {100: 0.5, 200: 0.2}, "b": {400: 0.0}})
    found = ckptwatch("compare", "a@200", "b@400", "--json", "--db", tmp_path / "r.db").json
    assert [one["verdict"] for one in found] == ["b at step 400 is better"]


def test_where_no_windows_are_kept_the_standard_errors_serve_and_that_is_said(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db")
    said = ckptwatch("compare", 100, 300, "--db", tmp_path / "r.db")
    assert said.status == 0
    assert "step 300 is better" in said.out
    assert "no per-window sums are stored" in said.err


def test_steps_and_runs_that_are_not_there_get_the_nearest(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db")
    said = ckptwatch("compare", 100, 250, "--db", tmp_path / "r.db")
    assert said.status == 4
    assert "the nearest are 200 and 300" in said.err
    said = ckptwatch("compare", "gpt", "gptt", "--db", tmp_path / "r.db")
    assert said.status == 4
    assert "did you mean 'gpt'?" in said.err
    assert ckptwatch("compare", "gpt", 100, "--db", tmp_path / "r.db").status == 2


def test_a_diverged_side_and_another_definition_are_said_not_computed(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, None)
    database.result(500, 2.0, seq_len=128)
    one = ckptwatch("compare", 100, 400, "--json", "--db", tmp_path / "r.db").json[0]
    assert one["difference"] is None
    assert "not finite" in one["verdict"]
    assert "seq_len 64 and 128" in ckptwatch("compare", 100, 500, "--db", tmp_path / "r.db").out


def test_a_step_that_was_evaluated_on_an_earlier_definition_only_is_said_to_be(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, 2.0, eval_digest="sha256:earlier")
    said = ckptwatch("compare", 300, 400, "--db", tmp_path / "r.db")
    assert said.status == 4
    assert "step 400 was evaluated with another definition of val only" in said.err
    assert f"ckptwatch results --db {tmp_path / 'r.db'} --step 400 shows that value" in said.err


def test_the_verdict_is_whole_on_a_narrow_terminal(ckptwatch, tmp_path, monkeypatch):
    from watcher.cli import showing

    trained(tmp_path / "r.db", {"gpt-small-wide": {1000: 0.1, 2000: 0.0}, "gpt-small-deep": {1000: 0.2, 2000: 0.0}})
    for width in (80, 40, 20):
        monkeypatch.setattr(showing, "terminal_width", lambda width=width: width)
        text = ckptwatch("compare", "gpt-small-wide@1000", "gpt-small-wide@2000", "--db", tmp_path / "r.db").out
        assert "val: step 2000 is better" in text.splitlines(), width
    table = ckptwatch("compare", 1000, 2000, "--run", "gpt-small-wide", "--db", tmp_path / "r.db").out
    monkeypatch.setattr(showing, "terminal_width", lambda: 80)
    assert "<0.001" in ckptwatch("compare", 1000, 2000, "--run", "gpt-small-wide", "--db", tmp_path / "r.db").out
    assert "e-" not in table


def test_a_checkpoint_is_compared_with_the_mean_that_ends_there(ckptwatch, tmp_path):
    database = trained(tmp_path / "r.db", {"gpt": {100: 0.3, 200: 0.2, 300: 0.1}})
    nats = [n * 2.0 for n in TARGETS]
    for step in (200, 300):
        mean = {"weights": "mean2", "checkpoint": f"step_{step}.pt#mean2", "checkpoint_digest": f"sha256:mean-{step}"}
        database.result(step, None, windows=nats, targets=TARGETS, loss_stderr=0.2, **mean)
    (one,) = ckptwatch("compare", 300, "300#mean2", "--json", "--db", tmp_path / "r.db").json
    assert (one["a"]["checkpoint"], one["b"]["checkpoint"]) == ("step_300.pt", "step_300.pt#mean2")
    assert abs(one["difference"] - (2.0 - one["a"]["loss"])) < 1e-9 and one["method"] == "paired"
    assert one["verdict"] == "step 300 (mean2) is better"
    found = ckptwatch("compare", "gpt", "gpt#mean2", "--json", "--db", tmp_path / "r.db").json
    assert [(pair["a"]["step"], pair["b"]["weights"]) for pair in found] == [(200, "mean2"), (300, "mean2")]
    both = ckptwatch("compare", 200, 300, "--json", "--db", tmp_path / "r.db").json
    assert sorted(str(pair["a"]["weights"]) for pair in both) == ["None", "mean2"]  # each with its own kind
    lines = ckptwatch("compare", 200, 300, "--db", tmp_path / "r.db").out.splitlines()
    assert sum("300 (mean2)" in line and "200 (mean2)" in line for line in lines[1:3]) == 1
    said = ckptwatch("compare", 300, "300#mean5", "--db", tmp_path / "r.db")
    assert said.status == 4 and "there is no mean mean5; there are mean2" in said.err
    said = ckptwatch("compare", 100, "100#mean2", "--db", tmp_path / "r.db")
    assert said.status == 4 and "no result at step 100" in said.err
