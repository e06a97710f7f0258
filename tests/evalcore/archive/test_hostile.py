"""Hostile content: nothing of it is ever run; and what is no regular file is named at once."""

import os
import pickle
import socket
import zipfile

import pytest
import torch

from evalcore.archive import ArchiveError, probe, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make


def refusal(path, look=summarise):
    with pytest.raises(ArchiveError) as caught:
        look(path)
    return caught.value


# ---- hostile content ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "legacy", "raw"])
@pytest.mark.parametrize("where", ["extra", "config", "model", "step", "optimizer"])
def test_a_command_in_a_pickle_is_never_run(tmp_path, form, where):
    marker = tmp_path / "ran"
    path = make.save_hostile(tmp_path / "a.pt", marker, where=where, form=form)
    if form == "raw":
        assert refusal(path).kind == "unsafe" and "posix.system" in refusal(path).reason
        assert refusal(path, probe).kind == "unsafe"
    else:
        assert "posix.system" in summarise(path).custom_names and "posix.system" in summarise(path).note
        assert probe(path).digest
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        assert error.kind in ("unsafe", "unsupported", "shape")
        assert (form, where) not in (("zip", "extra"), ("zip", "optimizer"))
        if where == "model" or form != "zip":
            assert error.kind == "unsafe" and "posix.system" in error.reason
    else:
        assert form == "zip" and where in ("extra", "optimizer", "step")
        assert any("read as data, not called: posix.system" in note for note in loaded.notes)
    assert not marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x04\x00\x00\x00nametR.",
        b"ctorch.hub\nload\n(X\x01\x00\x00\x00atR.",
        b"cnumpy.core.multiarray\nscalar\n(NNtR.",
        b"ctorch\nload\n(X\x01\x00\x00\x00atR.",
        b"cbuiltins\neval\nX\x04\x00\x00\x00exit\x85R.",
        b"(cos\nsystem\nX\x04\x00\x00\x00exito.",
        b"(X\x04\x00\x00\x00exitios\nsystem\n.",
        b"cos\nsystem\n)\x81}X\x01\x00\x00\x00aNsb.",
        b"cos\nsystem\n)}\x92.",
    ],
)
def test_calls_of_anything_are_inert(tmp_path, body):
    make.write_pickle_in_zip(tmp_path / "a.pt", b"\x80\x02}X\x01\x00\x00\x00v" + body[:-1] + b"s.")
    told = summarise(tmp_path / "a.pt")
    assert told.keys == ["v"] and told.states == []


@pytest.mark.parametrize("tail", [b"K\x00K\x01s.", b"(K\x00K\x01u.", b"K\x01a.", b"(K\x01e."])
def test_setting_an_item_on_a_tensor_is_unsafe(tmp_path, tail):
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x02tQK\x00K\x02\x85K\x01\x85\x89NtR"
    )
    make.write_pickle_in_zip(tmp_path / "a.pt", b"\x80\x02" + tensor + tail, {"0": bytes(8)})
    assert refusal(tmp_path / "a.pt").kind == "unsafe"


def test_a_storage_of_another_size_than_its_record_is_refused(tmp_path):
    state = make.rosellm_state()
    path = tmp_path / "a.pt"
    torch.save({"model": state, "config": make.ROSELLM}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("a/data.pkl")
        records = {n.removeprefix("a/data/"): archive.read(n) for n in archive.namelist() if n.startswith("a/data/")}
    records["0"] += bytes(4)
    make.write_pickle_in_zip(path, pickled, records)
    with pytest.raises(CheckpointError, match="record data/0 has") as caught:
        load_checkpoint(path)
    assert caught.value.kind == "shape"


def test_a_tensor_beyond_its_storage_is_refused_whatever_its_shape_and_stride(tmp_path):
    def tensor(offset, shape, stride):
        number = lambda n: b"\x8a\x08" + n.to_bytes(8, "little")  # noqa: E731
        many = lambda ns: b"(" + b"".join(map(number, ns)) + b"t"  # noqa: E731
        return (
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
            b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ" + number(offset) + many(shape) + many(stride) + b"\x89NtR."
        )

    for case in (
        (1, [2], [1]),
        (0, [3], [1]),
        (0, [2, 2], [1, 1]),
        (0, [2], [1 << 62]),
        (1 << 62, [1], [1]),
        (0, [2], []),
    ):
        make.write_pickle_in_zip(tmp_path / "a.pt", tensor(*case), {"0": bytes(8)})
        assert refusal(tmp_path / "a.pt").kind in ("shape", "corrupt"), case


def test_an_object_within_the_state_dict_is_unsafe_for_a_factory_too(tmp_path):
    path = make.save_hostile(tmp_path / "a.pt", tmp_path / "ran", where="model")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(factory="anything:build"))
    assert caught.value.kind == "unsafe" and not (tmp_path / "ran").exists()


# ---- what is no regular file ----------------------------------------------------------------------------------------


def test_folders_pipes_sockets_devices_and_links_to_them_are_named_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    (tmp_path / "loop.pt").symlink_to("loop.pt")
    (tmp_path / "dangling.pt").symlink_to("nowhere")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)
    listening.bind("s.pt")
    for name, what in (
        ("pipe", "a named pipe"),
        ("folder", "a folder"),
        ("zero", "a character device"),
        ("s", "a socket"),
    ):
        error = refusal(tmp_path / f"{name}.pt", probe)
        assert error.kind == "unsupported" and what in error.reason
    listening.close()
    for name in ("loop", "dangling"):
        with pytest.raises(OSError):
            probe(tmp_path / f"{name}.pt")
    real = make.save_rosellm(tmp_path / "real.pt")
    (tmp_path / "latest.pt").symlink_to(real)
    assert probe(tmp_path / "latest.pt").digest == probe(real).digest


def test_names_in_errors_are_fit_for_a_terminal(tmp_path):
    make.write_zip(tmp_path / "a.pt", {"\x1b[31mred\n/data.pkl": b"N.", "b/x": b""})
    assert "\x1b" not in refusal(tmp_path / "a.pt").reason and "\n" not in refusal(tmp_path / "a.pt").reason


def test_an_archive_error_survives_pickling_between_processes():
    error = pickle.loads(pickle.dumps(ArchiveError("corrupt", "why", "what", incomplete=True)))
    assert (error.kind, error.reason, error.hint, error.incomplete) == ("corrupt", "why", "what", True)
