"""Small files that once made their reader slow, large, or fail: each is refused or read within bounds."""

import json
import struct
from dataclasses import asdict

import pytest
import torch

from evalcore.archive import LIMITS, ArchiveError, summarise
from evalcore.archive.errors import shown
from evalcore.archive.pickle.machine import unpickle
from evalcore.archive.pickle.plain import plain
from tests.evalcore.archive.test_damage import bounded
from tests.support import checkpoints as make
from tests.support.torch_pickles import PROTO, dict_of, floats, number, persistent, tensor, text

LEVELS = b"(" + text("x") + b"tq\x00" + b"".join(b"(h%ch%ct" % (i, i) + b"q%c" % (i + 1) for i in range(60))
DOUBLING = b"(" + LEVELS + b"1h\x3c"  # the levels stay in the memo; the stack gets the last one alone


def doubled_tuple():
    """A tuple of two of a tuple of two of ...: 60 levels, 2^60 items where anything prints it."""
    return DOUBLING


def refusal(path):
    with pytest.raises(ArchiveError) as caught:
        summarise(path)
    return caught.value


def test_a_storage_location_that_doubles_itself_is_refused_before_it_is_printed(tmp_path):
    value = dict_of(text("a.weight"), persistent("0", location=doubled_tuple()))
    make.write_pickle_in_zip(tmp_path / "a.pt", PROTO + value + b".", {"0": floats(1, 2)})
    assert (tmp_path / "a.pt").stat().st_size < 2000
    answer = bounded(tmp_path / "a.pt", seconds=5, megabytes=300)
    assert answer == "corrupt the pickle is damaged: a storage is described wrongly\n"


@pytest.mark.parametrize("place", ["config", "key", "step", "val_loss", "shape", "call"])
def test_a_tuple_that_doubles_itself_is_harmless_wherever_it_stands(tmp_path, place):
    body = {
        "config": dict_of(text("config"), dict_of(text("n_layer"), doubled_tuple())),
        "key": dict_of(doubled_tuple(), number(1)),
        "step": dict_of(text("step"), doubled_tuple()),
        "val_loss": dict_of(text("val_loss"), doubled_tuple()),
        "shape": b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent("0") + number(0) + doubled_tuple() + b")\x89NtR",
        "call": b"cmylib\nf\n(" + doubled_tuple() + b"tR",
    }[place]
    make.write_pickle_in_zip(tmp_path / "a.pt", PROTO + body + b".", {"0": floats(1, 2)})
    answer = bounded(tmp_path / "a.pt", seconds=5, megabytes=300)
    shape = "corrupt the pickle is damaged: a tensor's shape and stride do not fit\n"
    assert answer == (shape if place == "shape" else "read\n")


def test_two_to_the_64_elements_by_strides_of_zero_are_refused(tmp_path):
    for shape in ((1 << 32, 1 << 32), (1 << 62, 2), (1 << 63,), (3, 1 << 62, 0)):
        value = dict_of(text("a.weight"), tensor("0", shape=shape, stride=(0,) * len(shape)))
        make.write_pickle_in_zip(tmp_path / "a.pt", PROTO + value + b".", {"0": floats(1, 2)})
        assert refusal(tmp_path / "a.pt").kind in ("shape", "corrupt")


def test_the_number_of_parameters_fits_a_database_column(tmp_path):
    huge = (1 << 60,)
    items = [piece for i in range(40) for piece in (text(f"a.{i}"), tensor(str(i), shape=huge, stride=(0,)))]
    records = {str(i): floats(1, 2) for i in range(40)}
    make.write_pickle_in_zip(tmp_path / "a.pt", PROTO + dict_of(*items) + b".", records)
    assert summarise(tmp_path / "a.pt").parameters == (1 << 63) - 1


@pytest.mark.parametrize("digits", [400, 600, 5000])
def test_an_integer_of_hundreds_of_digits_is_no_loss_no_step_and_no_error(tmp_path, digits):
    value = 10**digits
    payload = {"model": make.rosellm_state(), "val_loss": value, "step": value, "tokens_seen": value,
               "config": {**make.ROSELLM, "seed": value}}  # fmt: skip
    if digits > 600:
        torch.save(payload, tmp_path / "a.pt", pickle_protocol=4)
        assert refusal(tmp_path / "a.pt").kind == "unsupported"
        return
    torch.save(payload, tmp_path / "a.pt")
    summary = summarise(tmp_path / "a.pt")
    assert (summary.logged_val_loss, summary.step, summary.tokens_seen) == (None, None, None)
    assert len(summary.config["seed"]) < 100


@pytest.mark.parametrize("key", ["a\ud800.weight", "a\x1b[2J.weight", "a\n.weight", "w" * 3_000_000])
def test_tensor_names_that_cannot_be_printed_or_stored_are_refused_in_a_short_sentence(tmp_path, key):
    state = make.rosellm_state()
    torch.save({"model": {**state, key: torch.ones(2)}, "config": make.ROSELLM}, tmp_path / "a.pt")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and len(error.reason) < 300
    assert error.reason.encode("utf-8").isascii() and error.reason.isprintable()
    torch.save({"model": state, "ema": {**state, key: torch.ones(2)}, "config": make.ROSELLM}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").parameters > 0  # another state dict is no obstacle


def test_whatever_a_file_is_full_of_its_summary_can_be_stored_and_stays_small(tmp_path):
    long, lone = "x" * 2_000_000, "\ud800\x1b"
    payload = {
        "model": make.rosellm_state(), long: 1, lone: 2, 10**100: 3, (long, lone): 4, b"\xff" * 9999: 5,
        "config": {**make.ROSELLM, "a": long, lone: lone, "many": [long] * 50_000, "deep": {"x": {long: [lone]}}},
        "step": 5,
    }  # fmt: skip
    torch.save(payload, tmp_path / "a.pt")
    stored = json.dumps(asdict(summarise(tmp_path / "a.pt")), ensure_ascii=False)
    assert len(stored.encode("utf-8")) < 2_000_000  # no lone surrogate is left


def test_a_configuration_is_cut_at_its_limit_of_text():
    assert sum(map(len, plain(["y" * 9000] * 100_000))) <= LIMITS.config_chars + 4 * LIMITS.config_items


def test_a_class_with_an_endless_name_is_refused(tmp_path):
    make.write_pickle_in_zip(tmp_path / "a.pt", b"\x80\x02cmylib\n" + b"x" * 2_000_000 + b"\n.")
    assert refusal(tmp_path / "a.pt").kind == "unsupported"


def test_errors_and_shown_names_are_printable_and_short():
    error = ArchiveError("corrupt", "because \ud800\x1b" + "x" * 100_000, "do \x07")
    assert len(error.reason) < 2100 and error.reason.isprintable() and error.hint.isprintable()
    assert shown("abc", 2) == "ab..." and shown("ab", 2) == "ab" and shown((1, 2, 3), 4) == "(1, ..."


def test_an_integer_longer_than_its_bound_is_refused():
    with pytest.raises(ArchiveError, match="an integer of 300 bytes"):
        unpickle(b"\x80\x02\x8b" + struct.pack("<i", 300) + bytes(300) + b".")
    assert unpickle(PROTO + number(1 << 1000) + b".").value == 1 << 1000
