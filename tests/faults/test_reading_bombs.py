"""A folder of small files that once ended the daemon at every start: one verdict each, and the good ones measured."""

from __future__ import annotations

import torch

from tests.support import checkpoints as make
from tests.support.torch_pickles import PROTO, dict_of, floats, number, persistent, tensor, text

DOUBLING = b"(" + text("x") + b"tq\x00" + b"".join(b"(h%ch%ct" % (i, i) + b"q%c" % (i + 1) for i in range(60))


def lay_bombs(folder) -> None:
    def crafted(name, value):
        make.write_pickle_in_zip(folder / name, PROTO + value + b".", {"0": floats(1, 2)})

    crafted("location_step_1.pt", dict_of(text("a.weight"), persistent("0", location=DOUBLING)))
    crafted("stride_step_2.pt", dict_of(text("a.weight"), tensor("0", shape=(1 << 32, 1 << 32), stride=(0, 0))))
    crafted("parameters_step_3.pt", dict_of(text("a.weight"), tensor("0", shape=(1 << 60,), stride=(0,))))
    crafted("key_step_4.pt", dict_of(DOUBLING, number(1), text("val_loss"), DOUBLING))
    state = make.rosellm_state()
    for step, key in ((5, "a\ud800.weight"), (6, "w" * 3_000_000), (7, "a\x1b[2J.weight")):
        payload = {"model": {**state, key: torch.ones(2)}, "config": make.ROSELLM, "step": step}
        torch.save(payload, folder / f"name_step_{step}.pt")
    missing = {("x" * 400 + key): value for key, value in state.items()}
    torch.save({"model": missing, "config": make.ROSELLM, "step": 8}, folder / "missing_step_8.pt")


def test_a_folder_of_small_bombs_ends_with_one_verdict_each_and_the_good_files_measured(site):
    here = site(fake=False)
    lay_bombs(here.folder)
    torch.save(
        {"model": make.rosellm_state(), "config": make.ROSELLM, "note": "\ud800" * 99,
         "step": 100, "val_loss": 10**400, "tokens_seen": 10**400, "\ud800\x1b": DOUBLING},
        here.folder / "good_step_100.pt",
    )  # fmt: skip
    done = here.once()
    assert done.returncode == 5, done.stderr
    assert here.query("SELECT checkpoint, step, logged_val_loss FROM results") == [("good_step_100.pt", 100, None)]
    failures = here.query("SELECT checkpoint, kind, length(reason) FROM failures ORDER BY checkpoint")
    assert [path for path, _, _ in failures] == sorted(
        path.name for path in here.folder.iterdir() if not path.name.startswith("good")
    )
    assert max(length for _, _, length in failures) < 4000
    here.assert_sound()
    status = here.query("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
    assert status == [(0,)]
