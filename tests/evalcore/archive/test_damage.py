"""Incomplete and damaged files and bombs: each refused with its kind, in bounded time and memory."""

import os
import random
import resource
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

from evalcore.archive import LIMITS, ArchiveError, probe, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from tests.support import checkpoints as make


def refusal(path, look=summarise):
    with pytest.raises(ArchiveError) as caught:
        look(path)
    return caught.value


# ---- incomplete and damaged -----------------------------------------------------------------------------------------


def test_a_truncation_is_never_accepted_and_always_called_incomplete(tmp_path):
    whole = make.save_rosellm(tmp_path / "a.pt").read_bytes()
    cut = tmp_path / "cut.pt"
    points = {1, 2, 3, 22, 23, 64, len(whole) - 1, len(whole) - 22, len(whole) - 23}
    chance = random.Random(0)
    points |= {chance.randrange(1, len(whole)) for _ in range(200)}
    for length in sorted(points):
        cut.write_bytes(whole[:length])
        error = refusal(cut, probe)
        assert error.kind == "corrupt" and error.incomplete, (length, error.reason)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_legacy_file_is_corrupt(tmp_path, fraction):
    whole = make.save_rosellm(tmp_path / "a.pt", legacy=True).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * fraction)])
    error = refusal(tmp_path / "cut.pt", probe)
    assert error.kind == "corrupt" and error.incomplete


def test_an_empty_file_and_one_of_zeros_may_still_be_written(tmp_path):
    (tmp_path / "empty.pt").touch()
    (tmp_path / "zeros.pt").write_bytes(bytes(5000))
    assert refusal(tmp_path / "empty.pt", probe).incomplete and refusal(tmp_path / "zeros.pt", probe).incomplete


def test_random_bytes_are_no_checkpoint(tmp_path):
    for seed in range(50):
        (tmp_path / "noise.pt").write_bytes(random.Random(seed).randbytes(5000))
        assert refusal(tmp_path / "noise.pt").kind in ("corrupt", "unsupported", "unsafe")


def test_every_bit_flip_in_the_file_is_refused_or_changes_nothing(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", optimizer=False, tied=True)
    whole = path.read_bytes()
    tokens = torch.arange(8)[None]
    good = load_checkpoint(path)
    expected = good.model(tokens)
    chance = random.Random(1)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert error.kind in ("corrupt", "unsafe", "unsupported", "shape")
        else:  # the flip hit padding between records
            assert torch.equal(loaded.model(tokens), expected) and loaded.step == good.step
            loaded.close()
    assert refused > 130


def test_every_flip_in_a_model_record_is_corrupt(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", optimizer=False)
    whole = path.read_bytes()
    for tensor in make.rosellm_state().values():
        data = bytearray(whole)
        data[whole.find(tensor.numpy().tobytes())] ^= 0x40
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="its CRC is") as caught:
            load_checkpoint(path)
        assert caught.value.kind == "corrupt"


def test_a_hole_of_zeros_is_corrupt(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt", optimizer=False)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2048] = bytes(2048)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"CRC|does not agree"):
        load_checkpoint(path)


def test_fuzzed_pickle_and_directory_never_crash_the_reader(tmp_path):
    path = make.save_build_nanogpt(tmp_path / "a.pt")
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        pickled = archive.read(name)
    whole = path.read_bytes()
    directory_at = whole.rfind(b"PK\6\6") - 1200
    chance = random.Random(2)
    kinds = set()
    for round_number in range(600):
        if round_number % 2:
            data = bytearray(pickled)
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            make.write_pickle_in_zip(path, bytes(data))
        else:
            data = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                data[chance.randrange(directory_at, len(data))] = chance.randrange(256)
            path.write_bytes(data)
        try:
            summarise(path)
        except ArchiveError as error:
            kinds.add(error.kind)
    assert "corrupt" in kinds


def test_random_pickles_never_crash_the_reader(tmp_path):
    chance = random.Random(3)
    opcodes = b"()0123KMJNXUT]}{aetdslqrhjgpcRibQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x92\x93\x94\x95."
    for _ in range(1000):
        body = bytes(chance.choice(opcodes) if chance.random() < 0.8 else chance.randrange(256) for _ in range(60))
        make.write_pickle_in_zip(tmp_path / "a.pt", body)
        try:
            summarise(tmp_path / "a.pt")
        except ArchiveError as error:
            assert not error.incomplete, error.reason


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"archive/version": b"3\n"}, "no data.pkl"),
        ({"data.pkl": b"N."}, "top folder"),
        ({"a/data.pkl": b"N.", "b/data/0": b""}, "two top folders"),
        ({"a/../data.pkl": b"N."}, "top folder"),
    ],
)
def test_zips_of_another_structure_are_corrupt(tmp_path, entries, words):
    error = refusal(make.write_zip(tmp_path / "a.pt", entries), probe)
    assert error.kind == "corrupt" and words in error.reason and not error.incomplete


def test_duplicate_names_prepended_and_appended_bytes_and_encryption_are_refused(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    whole = path.read_bytes()
    path.write_bytes(b"PK\3\4 junk" + whole)
    assert refusal(path, probe).kind == "corrupt"
    path.write_bytes(whole + b"junk")
    assert refusal(path, probe).kind == "corrupt"
    at = whole.rfind(b"PK\1\2")
    path.write_bytes(whole[: at + 8] + b"\x09" + whole[at + 9 :])
    assert "encrypted" in refusal(path, probe).reason
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/data.pkl", b"N.")
    assert "two entries" in refusal(path, probe).reason


def test_overlapping_entries_are_refused(tmp_path):
    path = make.write_pickle_in_zip(tmp_path / "a.pt", b"N.", {"0": bytes(100), "1": bytes(100)})
    data = bytearray(path.read_bytes())
    first, second = [i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"][-2:]
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    assert refusal(path, probe).kind == "corrupt"


# ---- bombs ----------------------------------------------------------------------------------------------------------


def bounded(path, *, seconds=20, megabytes=1500):
    """Run summarise in a process with hard limits on CPU time and memory; what it printed."""
    code = (
        "import sys\nfrom evalcore.archive import summarise, ArchiveError\n"
        "try:\n    summarise(sys.argv[1]); print('read')\nexcept ArchiveError as e:\n    print(e.kind, e.reason)"
    )

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    return done.stdout


def test_deflated_records_are_unsafe_before_anything_is_unpacked(tmp_path):
    path = make.write_zip(tmp_path / "a.pt", {"a/data.pkl": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    assert bounded(path, megabytes=200).startswith("unsafe entry data.pkl is compressed")


def test_a_sparse_file_of_50_gib_is_refused_without_reading_it(tmp_path):
    for start in (b"", b"PK\3\4", make.save_rosellm(tmp_path / "l.pt", legacy=True).read_bytes()):
        path = tmp_path / "sparse.pt"
        path.write_bytes(start)
        os.truncate(path, 50 << 30)
        assert bounded(path, seconds=5).startswith("corrupt")


def test_pickles_that_eat_time_or_memory_end_early(tmp_path):
    nest = b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    tuples = b"\x80\x02)" + b"\x85" * 200_000 + b"."
    deep_key = b"\x80\x02})" + b"\x85" * 200_000 + b"Ns."
    flood = b"\x80\x02(" + b"]" * (20 << 20) + b"l."
    memo = b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b"."
    huge = b"\x80\x02X\xff\xff\xff\x7fabc."
    collide = b"\x80\x02}(" + b"".join(
        b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for n in range(1, 60_000)
    ) + b"u."  # fmt: skip
    copies = (
        b"\x80\x02("
        + b"(NNt" * 200_000
        + b"lq\x00ccollections\nOrderedDict\nq\x010"
        + b"h\x01h\x00\x85R0" * 50_000
        + b"N."
    )
    for body in (nest, tuples, deep_key, flood, memo, huge, collide, copies):
        make.write_pickle_in_zip(tmp_path / "a.pt", body)
        assert bounded(tmp_path / "a.pt")


def test_a_pickle_over_the_limit_is_unsupported(tmp_path):
    make.write_pickle_in_zip(tmp_path / "a.pt", b"\x80\x02B" + struct.pack("<I", 65 << 20) + bytes(65 << 20) + b".")
    error = refusal(tmp_path / "a.pt")
    assert error.kind == "unsupported" and str(LIMITS.pickle_bytes) in error.reason


def test_a_hundred_thousand_tiny_records_are_read_or_refused_in_bounded_time(tmp_path):
    payload = {"model": {f"w.{i}": torch.zeros(1) for i in range(5_000)}, "step": 3}
    torch.save(payload, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").step == 3
    make.write_zip(tmp_path / "many.pt", {f"a/{i}": b"" for i in range(100_001)})
    assert "more than 100000" in refusal(tmp_path / "many.pt", probe).reason


def expanded(rows):
    return torch.zeros(1).expand(rows, 16)


def test_a_tensor_expanded_from_one_number_is_never_allocated(tmp_path):
    state = make.rosellm_state()
    state["token_embedding.weight"] = expanded(10**10)
    state["lm_head.weight"] = expanded(10**10)
    torch.save({"model": state, "config": {**make.ROSELLM, "vocab_size": 10**10}}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 200_000
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert caught.value.kind in ("shape", "unsupported")
    torch.save({"model": {**state, "lm_head.weight": expanded(10**8), "token_embedding.weight": expanded(10**8)},
                "config": {**make.ROSELLM, "vocab_size": 10**8}}, tmp_path / "a.pt")  # fmt: skip
    with pytest.raises(CheckpointError, match="describe 12800") as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert caught.value.kind == "shape"
