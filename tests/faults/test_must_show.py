"""What issue and README promise a reader at once: a folder full of traps, and two careless trainers. Real torchrun."""

from __future__ import annotations

import os
import random
import shutil
import zipfile

import pytest
import torch

from evalcore.data import open_stream
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure.evaluate import evaluate
from evalcore.messages import EvalSetSpec, from_json
from tests.support import checkpoints
from tests.support.daemon import wait_until

KINDS = {
    "legacy_hostile_step_900.pt": {"unsafe"},
    "truncated.pt": {"corrupt"},
    "empty.pt": {"corrupt"},
    "random.pt": {"corrupt"},
    "flipped.pt": {"corrupt"},
    "bomb.pt": {"unsafe"},
    "fifo.pt": {"unsupported"},
    "zero.pt": {"unsupported"},
    "loop.pt": {"unsupported"},
    "dangling.pt": {"unsupported"},
    "folder.pt": {"unsupported"},
    "sparse.pt": {"corrupt", "unsupported"},
}


def lay_traps(folder, canary) -> None:
    good = checkpoints.save_rosellm(folder / "step_10.pt", step=10, seed=1)
    checkpoints.save_rosellm(folder / "step_20.pt", step=20, seed=2)
    checkpoints.save_nanogpt(folder / "ckpt_30.pt", step=30)
    state = checkpoints.rosellm_state(seed=3)
    state["ln_f.weight"] = torch.full_like(state["ln_f.weight"], float("nan"))
    torch.save({"model": state, "step": 40, "config": dict(checkpoints.ROSELLM)}, folder / "step_40.pt")
    checkpoints.save_hostile(folder / "hostile_step_800.pt", canary)
    checkpoints.save_hostile(folder / "legacy_hostile_step_900.pt", canary, form="legacy")
    whole = good.read_bytes()
    (folder / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pt").touch()
    (folder / "random.pt").write_bytes(random.Random(5).randbytes(5000))
    flip_in_model(folder, whole)
    checkpoints.write_zip(
        folder / "bomb.pt",
        {"archive/data.pkl": b"\x80\x02}.", "archive/data/0": bytes(64 << 20)},
        compression=zipfile.ZIP_DEFLATED,
    )
    os.mkfifo(folder / "fifo.pt")
    os.symlink("/dev/zero", folder / "zero.pt")
    os.symlink("loop.pt", folder / "loop.pt")
    os.symlink("nowhere", folder / "dangling.pt")
    (folder / "folder.pt").mkdir()
    with open(folder / "sparse.pt", "wb") as file:
        file.truncate(50 << 30)


def flip_in_model(folder, whole: bytes) -> None:
    """One bit of a record that the model needs."""
    path = folder / "flipped.pt"
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        record = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda info: info.file_size)
    content = bytearray(whole)
    content[record.header_offset + 256] ^= 1
    path.write_bytes(content)


def test_must_show_a_folder_of_traps_ends_in_seconds_with_one_verdict_each(site, tmp_path):
    here, canary = site(fake=False), tmp_path / "canary"
    lay_traps(here.folder, canary)
    before = {e.name: (e.lstat().st_mtime_ns, e.lstat().st_size) for e in here.folder.iterdir()}
    done = here.once()
    assert done.returncode == 5, done.stderr
    assert not canary.exists()
    rows = here.query("SELECT checkpoint, finite, loss, note FROM results")
    assert {row[0]: row[1] for row in rows} == {
        "step_10.pt": 1, "step_20.pt": 1, "ckpt_30.pt": 1, "step_40.pt": 0, "hostile_step_800.pt": 1,
    }  # fmt: skip
    note = next(row[3] for row in rows if row[0] == "hostile_step_800.pt")
    assert "system" in note
    failures = here.query("SELECT checkpoint, kind FROM failures")
    assert {path for path, _ in failures} == set(KINDS)
    assert len(failures) == len(KINDS)
    assert {path: kind for path, kind in failures if kind not in KINDS[path]} == {}
    after = {e.name: (e.lstat().st_mtime_ns, e.lstat().st_size) for e in here.folder.iterdir()}
    assert after == before
    here.assert_sound()
    again = here.once()
    assert again.returncode == 5
    assert here.query("SELECT count(*) FROM attempts WHERE outcome = 'succeeded'") == [(5,)]
    shutil.rmtree(here.folder / "folder.pt")


@pytest.mark.parametrize("way", ["in place", "renamed over"])
def test_must_show_a_trainer_that_writes_one_path_five_times_has_five_right_rows(site, way):
    here = site(fake=False, launch={"linger_s": 20.0})
    here.start()
    path, expected = here.folder / "ckpt.pt", {}
    for number in range(1, 6):
        fresh = checkpoints.save_rosellm(here.root / "fresh.pt", step=number * 100, seed=number)
        if way == "in place":
            with open(path, "wb") as file:
                file.write(fresh.read_bytes())
        else:
            os.replace(fresh, path)
        wait_until(lambda number=number: registered(here, number * 100))
        shutil.copyfile(path, here.root / f"kept_{number}.pt")
        expected[number * 100] = here.root / f"kept_{number}.pt"
    here.wait_for_results(5)
    rows = dict(here.query("SELECT step, loss FROM results WHERE checkpoint = 'ckpt.pt'"))
    assert here.stop() == 0
    assert set(rows) == set(expected)
    assert rows == {step: pytest.approx(loss_of(here, kept), rel=1e-6) for step, kept in expected.items()}
    here.assert_sound()


def loss_of(here, path) -> float:
    """The same file measured in this process, by the same core, on the set that the database describes."""
    spec = from_json(EvalSetSpec, here.query("SELECT spec FROM eval_sets")[0][0])
    loaded = load_checkpoint(str(path))
    settings = {"seq_len": spec.seq_len, "context_length": loaded.context_length, "vocab_size": loaded.vocab_size}
    return evaluate(loaded.model, open_stream(spec), device="cpu", **settings).loss


def test_must_show_a_trainer_that_keeps_only_its_newest_file_has_every_row(site):
    here = site(fake=False)
    here.start()
    before = None
    for number in range(1, 7):
        path = checkpoints.save_rosellm(here.folder / f"step_{number}.pt", step=number, seed=number)
        if before is not None:
            before.unlink()
        before = path
        wait_until(lambda number=number: registered(here, number))
    rows = here.wait_for_results(6)
    assert sorted(rows) == [f"step_{number}.pt" for number in range(1, 7)]
    assert here.failures() == {}
    here.assert_sound()
    assert here.stop() == 0


def registered(here, step: int) -> bool:
    return here.query("SELECT count(*) FROM checkpoints WHERE step = ?", step) == [(1,)]
