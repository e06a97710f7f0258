"""`ckptwatch prune` and the best link on checkpoints that are folders: the whole folder or nothing, of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalcore.archive import kind_at
from tests.support.database import Database
from watcher.alerts.channels import send_alert
from watcher.detect.observation import fingerprint_at
from watcher.errors import DeliveryError
from watcher.settings.schema import AlertSettings

#: name of the folder of a step, its files
KINDS = {
    "hugging face": ("checkpoint-{}", ["config.json", "model.safetensors", "optimizer.pt", "trainer_state.json"]),
    "shards": ("checkpoint-{}", ["config.json", *(f"model-0000{n}-of-00002.safetensors" for n in (1, 2))]),
    "litgpt": ("step-{:08d}", ["lit_model.pth", "model_config.yaml", "tokenizer.json"]),
    "dcp": ("step-{}", [".metadata", "__0_0.distcp", "__1_0.distcp"]),
    "olmo-core": ("step{}", ["model_and_optim/.metadata", "model_and_optim/__0_0.distcp", "train/rank0.pt"]),
    "deepspeed": ("global_step{}", ["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"]),
    "fsdp": ("step_{}", ["pytorch_model_fsdp.bin", "optimizer.bin"]),
}


def write(folder: Path, files: list[str]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 10)
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(params=KINDS)
def made(request, tmp_path):
    """Three folders of one kind, registered as they are and evaluated: (database, folder of the run, the three)."""
    name, files = KINDS[request.param]
    root = tmp_path / "run"
    database = Database(tmp_path / "r.db")
    root.mkdir()
    database.run("gpt", root)
    database.eval_set()
    folders = []
    for step in (100, 200, 300):
        folders.append(write(root / name.format(step), files))
        path = folders[-1].name
        about = dict(fingerprint_at(str(folders[-1]))._asdict())
        database.checkpoint(step, path=path, digest=f"sha256:{step}", **about)
        database.result(step, 3.0 - step / 1000, checkpoint=path, checkpoint_digest=f"sha256:{step}")
    return root, folders


def test_prune_removes_the_whole_folder_or_nothing(ckptwatch, made, tmp_path):
    root, (first, second, third) = made
    before = tree(root)
    (second / "a new file").write_bytes(b"")
    kind = kind_at(str(second))
    assert kind is not None
    weights = second / kind.weights[0]
    weights.write_bytes(b"y" * 20)  # saved again since
    kept = tree(second)
    said = ckptwatch("prune", "--keep", "last:1", "--apply", "--json", "--db", tmp_path / "r.db")
    assert [line["deleted"] for line in said.json] == [True, False, False]
    assert not first.exists() and tree(second) == kept and tree(root) == tree_without(before, first, root, second)
    assert third.is_dir() and not list(root.glob(".*deleting"))


def tree_without(before: list[str], gone: Path, root: Path, changed: Path) -> list[str]:
    left = [path for path in before if path != gone.name and not path.startswith(f"{gone.name}/")]
    return sorted([*left, f"{changed.name}/a new file"])


@pytest.mark.parametrize("made", ["dcp"], indirect=True)
def test_a_folder_that_cannot_be_renamed_stays_whole(ckptwatch, made, tmp_path, monkeypatch):
    root, _ = made
    before = tree(root)

    def refuse(source, target):
        raise PermissionError(13, "Permission denied", source)

    monkeypatch.setattr(os, "rename", refuse)
    said = ckptwatch("prune", "--keep", "last:1", "--apply", "--db", tmp_path / "r.db")
    assert said.status == 5 and tree(root) == before


@pytest.mark.parametrize("made", ["shards", "olmo-core", "litgpt"], indirect=True)
def test_the_best_link_and_copy_of_a_folder_are_the_whole_folder(made, tmp_path):
    root, (_, _, third) = made
    version = fingerprint_at(str(third))
    event = {
        "kind": "best", "text": "new best", "run": "gpt", "eval_set": "val", "checkpoint": third.name, "step": 300,
        "result": {"loss": 2.0, "eval_digest": "sha256:11"}, "dir": str(root), "source": str(third),
        "size_bytes": version.size_bytes, "mtime_ns": version.mtime_ns,
    }  # fmt: skip
    (tmp_path / "memory").mkdir()
    rule = AlertSettings(on=("best",), best_link=tmp_path / "aside" / "best", best_copy=tmp_path / "aside" / "copy")
    send_alert(rule, event, tmp_path / "memory")
    assert os.readlink(tmp_path / "aside" / "best") == str(third)
    assert tree(tmp_path / "aside" / "copy") == tree(third)
    with pytest.raises(DeliveryError, match="overwritten"):
        send_alert(
            rule, {**event, "size_bytes": 1, "result": {"loss": 1.0, "eval_digest": "sha256:11"}}, tmp_path / "memory"
        )
    assert tree(tmp_path / "aside" / "copy") == tree(third)


def test_prune_removes_a_pair_of_nanochat_together(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    (tmp_path / "d4").mkdir()
    database.run("gpt", tmp_path / "d4")
    database.eval_set()
    for step in (100, 200):
        optimizer = [f"optim_{step:06d}_rank{rank}.pt" for rank in (0, 1)]
        write(tmp_path / "d4", [f"model_{step:06d}.pt", f"meta_{step:06d}.json", *optimizer])
        path = f"model_{step:06d}.pt"
        about = dict(fingerprint_at(str(tmp_path / "d4" / path))._asdict())
        database.checkpoint(step, path=path, digest=f"sha256:{step}", **about)
        database.result(step, 2.0, checkpoint=path, checkpoint_digest=f"sha256:{step}")
    write(tmp_path / "d4", ["optim_000100_rank0.pt.bak", "optim_0001000_rank0.pt"])
    before = tree(tmp_path / "d4")
    shown = ckptwatch("prune", "--keep", "last:1", "--db", tmp_path / "r.db").out
    assert "delete, with meta_000100.json, optim_000100_rank0.pt, optim_000100_rank1.pt" in shown
    (row,) = [row for row in ckptwatch("prune", "--keep", "last:1", "--json", "--db", tmp_path / "r.db").json
              if row["keep"] is None]  # fmt: skip
    sizes = [(tmp_path / "d4" / name).stat().st_size for name in (row["checkpoint"], *row["companions"])]
    assert len(sizes) == 4 and row["bytes"] == sum(sizes) and tree(tmp_path / "d4") == before
    ckptwatch("prune", "--keep", "last:1", "--apply", "--db", tmp_path / "r.db")
    assert [name for name in before if name not in tree(tmp_path / "d4")] == sorted(
        [row["checkpoint"], *row["companions"]]
    )


def test_a_model_without_nanochat_s_meta_takes_nothing_with_it(ckptwatch, tmp_path):
    """build-nanogpt writes model_N.pt too; an optimizer file beside it may belong to anything."""
    database = Database(tmp_path / "r.db")
    (tmp_path / "log").mkdir()
    database.run("gpt", tmp_path / "log")
    database.eval_set()
    for step in (100, 200):
        path = f"model_{step:05d}.pt"
        write(tmp_path / "log", [path, f"optim_{step:05d}.pt"])
        about = dict(fingerprint_at(str(tmp_path / "log" / path))._asdict())
        database.checkpoint(step, path=path, digest=f"sha256:{step}", **about)
        database.result(step, 2.0, checkpoint=path, checkpoint_digest=f"sha256:{step}")
    ckptwatch("prune", "--keep", "last:1", "--apply", "--db", tmp_path / "r.db")
    assert tree(tmp_path / "log") == ["model_00200.pt", "optim_00100.pt", "optim_00200.pt"]
