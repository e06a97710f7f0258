"""The short form of `make fuzz`: random files read by our reader and by torch's safe loader, with no difference."""

import time

import pytest
import torch

from tests.evalcore.archive import fuzz
from tests.evalcore.archive.fuzz_files import File, make_file


def test_two_thousand_random_files_are_read_as_torch_reads_them_or_refused():
    totals = fuzz.run(2000, seed=20, chunk=500)
    assert totals.problems == [] and totals.torch_crashes == 0 and totals.slow == 0
    assert totals.files == 2000
    assert totals.count("same") > 500 and totals.count("both_refuse") > 500  # else it compares nothing


def test_the_memory_of_reading_random_files_does_not_grow(tmp_path):
    totals = fuzz.run(1000, seed=21, chunk=1000)
    assert totals.rss_kib < 1_000_000


@pytest.mark.parametrize("wrong", [lambda t: t * 2, lambda t: t.int(), lambda t: t[:2], lambda t: [t], lambda t: 1.0])
def test_the_fuzzer_sees_a_difference_where_there_is_one(tmp_path, monkeypatch, wrong):
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pt")
    file = File("saved", (tmp_path / "a.pt").read_bytes())
    assert fuzz.compare(file).outcome == "same"
    other = {"a.weight": wrong(torch.ones(3))}
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: other)
    assert fuzz.compare(file).outcome == "difference"


def test_the_fuzzer_sees_an_acceptance_and_a_refusal_that_torch_does_not_share(tmp_path, monkeypatch):
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    assert fuzz.compare(File("saved", data[:-1])).outcome == "both_refuse"

    def refuse(*args, **kwargs):
        raise RuntimeError("wrong storage size")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", refuse)
        assert fuzz.compare(File("saved", data)).outcome == "difference"
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: {})
    assert fuzz.compare(File("saved", data[:-1])).outcome == "difference"
    assert fuzz.compare(File("crafted", data[:-1])).outcome == "stricter"


def test_a_file_of_the_fuzzer_is_made_again_from_its_seed_and_index(monkeypatch):
    first = [make_file(5, i).data for i in range(30)]
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(1_000_000_000))  # zipfile's own clock
    again = [make_file(5, i).data for i in range(30)]
    zips = [i for i, data in enumerate(first) if data.startswith(b"PK")]  # the format before has addresses as keys
    assert len(zips) > 20 and all(first[i] == again[i] for i in zips)
