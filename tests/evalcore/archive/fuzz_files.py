"""Random checkpoint files from a seed and an index: as torch.save writes them, crafted, and mutated. Reads nothing."""

from __future__ import annotations

import argparse
import io
import pickletools
import random
import zipfile
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.evalcore.archive.fuzz_pickles import Crafter

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
NEW_DTYPES = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu]
KEYS = ["model", "state_dict", "ema", "step", "iter_num", "val_loss", "config", "extra", "a.weight", "h.0.bias", "lr"]


@dataclass(frozen=True)
class File:
    """kind: saved, legacy, crafted, mutated, flipped or archive. plain: as torch.save wrote it, unchanged."""

    kind: str
    data: bytes

    @property
    def plain(self) -> bool:
        return self.kind in ("saved", "legacy")

    def stream(self) -> io.BytesIO:
        return io.BytesIO(self.data)


def make_file(seed: int, index: int) -> File:
    """The file of that number: the same for the same seed, index and version of torch."""
    chance = random.Random(f"{seed}:{index}")
    torch.manual_seed(chance.getrandbits(40))
    kind = chance.choices(
        ["saved", "legacy", "crafted", "mutated", "flipped", "archive"], [30, 8, 30, 20, 7, 5]
    )[0]  # fmt: skip
    if kind in ("saved", "legacy"):
        return File(kind, _saved(chance, legacy=kind == "legacy"))
    if kind == "crafted":
        return File(kind, Crafter(chance).file())
    if kind == "flipped" and chance.random() < 0.3:
        return File(kind, _flipped(chance, _saved(chance, legacy=True)))
    entries = _entries(_saved(chance, legacy=False) if chance.random() < 0.7 else Crafter(chance).file())
    if kind == "archive":
        return File(kind, _zip(_other_archive(chance, entries)))
    change = _mutated if kind == "mutated" else _flipped
    entries["archive/data.pkl"] = change(chance, entries["archive/data.pkl"])
    return File(kind, _zip(list(entries.items())))


def _saved(chance: random.Random, *, legacy: bool) -> bytes:
    maker = _Payload(chance, legacy)
    payload = {chance.choice(KEYS): maker.value(0) for _ in range(chance.randrange(1, 6))}
    if chance.random() < 0.7:
        payload["model"] = maker.state_dict()
    out = io.BytesIO()
    protocol = chance.choice([2] * 9 + [3, 4, 5])
    torch.save(payload, out, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


class _Payload:
    """Random structures of what trainers save: tensors and views of a few storages, containers, numbers, texts."""

    def __init__(self, chance: random.Random, legacy: bool) -> None:
        self.chance = chance
        self.dtypes = DTYPES if legacy else [*DTYPES, *DTYPES, *NEW_DTYPES]
        self.legacy = legacy
        self.bases = [self._base() for _ in range(chance.randrange(1, 4))]

    def _base(self) -> torch.Tensor:
        dtype = self.chance.choice(self.dtypes)
        rows, columns = self.chance.randrange(0, 5), self.chance.randrange(0, 5)
        high = 2 if dtype is torch.bool else 256
        raw = torch.randint(0, high, (rows * columns * dtype.itemsize,), dtype=torch.uint8)
        return raw.view(dtype).view(rows, columns) if raw.numel() else torch.empty(rows, columns, dtype=dtype)

    def state_dict(self) -> Any:
        made = self.chance.choice([dict, OrderedDict, OrderedDict])()
        for i in range(self.chance.randrange(1, 5)):
            made[f"layer.{i}.weight"] = self.tensor()
        return made

    def tensor(self) -> torch.Tensor:
        chance, base = self.chance, self.chance.choice(self.bases)
        kind = chance.choice(["same", "same", "t", "slice", "step", "expand", "scalar", "neg", "conj", "both", "imag",
                              "parameter", "parameter", "attributes", "tagged", "odd"])  # fmt: skip
        if kind == "t":
            return base.t()
        if kind == "slice":
            return base[1:, 1:]
        if kind == "step":
            return base[::2, ::3]
        if kind == "expand" and base.numel():
            return base[:1, :1].expand(3, 4)
        if kind == "scalar" and base.numel():
            return base[-1, -1]
        if kind == "neg" and base.dtype in DTYPES and base.dtype is not torch.bool:
            return torch._neg_view(base)
        if kind in ("conj", "both") and base.is_complex():
            return torch._neg_view(base.conj()) if kind == "both" else base.conj()
        if kind == "imag":
            return torch.randn(chance.randrange(4), dtype=torch.complex64).conj().imag
        if kind == "parameter":
            return torch.nn.Parameter(base, requires_grad=base.is_floating_point() and chance.random() < 0.8)
        if kind == "attributes":
            parameter = torch.nn.Parameter(base, requires_grad=False)
            parameter.no_decay = chance.choice([True, {"lr": 0.1}, [base]])
            return parameter
        if kind == "tagged":
            tagged = base.clone()
            tagged.tag = "x"
            return tagged
        return self._odd() if kind == "odd" and not self.legacy else base

    def _odd(self) -> torch.Tensor:
        kind = self.chance.randrange(4)
        if kind == 0:
            return torch.eye(2).to_sparse()
        if kind == 1:
            return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        if kind == 2:
            return torch.empty(2, 3, device="meta")
        return torch.eye(3).to_sparse_csr()

    def value(self, depth: int) -> Any:
        chance = self.chance
        kind = chance.randrange(18 if depth < 3 else 10)
        simple = [
            None, chance.random() < 0.5, chance.randrange(-5, 300), chance.randrange(1 << 70) - (1 << 69),
            chance.choice([0.0, -0.0, 1.5, float("inf"), float("nan"), 1e300]),
            chance.choice(["", "é", "a\n", "\ud800"]),
            bytes(chance.randrange(5)), 10 ** chance.randrange(1, 500), torch.float32,
        ]  # fmt: skip
        if kind < len(simple):
            return simple[kind]
        if kind in (9, 10, 11):
            return self.tensor()
        inner = [self.value(depth + 1) for _ in range(chance.randrange(4))]
        keys = [chance.choice([*KEYS, 1, 2.5, None, True, (1, "a"), 1 << 65]) for _ in inner]
        pairs = list(zip(keys, inner, strict=True))
        made = [
            inner, tuple(inner), dict(pairs), OrderedDict(pairs), defaultdict(int, pairs), Counter("abca"),
        ]  # fmt: skip
        if chance.random() < 0.1:
            return chance.choice([np.float32(1.5), np.array(7), argparse.Namespace(a=1), torch.Size([2, 3]), {1, 2}])
        return made[kind - 12]


def _entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {f"archive/{name.split('/', 1)[1]}": archive.read(name) for name in archive.namelist()}


def _zip(entries: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data)  # a fixed date: a name alone would take the clock
    return out.getvalue()


def _flipped(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _mutated(chance: random.Random, data: bytes) -> bytes:
    """One to three opcodes removed, repeated, exchanged, or replaced by a crafted value."""
    ops = _opcodes(data)
    for _ in range(chance.randrange(1, 4)):
        i, j = chance.randrange(1, len(ops)), chance.randrange(1, len(ops))
        kind = chance.randrange(5)
        if kind == 0 and len(ops) > 3:
            del ops[i]
        elif kind == 1:
            ops.insert(i, ops[j])
        elif kind == 2:
            ops[i], ops[j] = ops[j], ops[i]
        elif kind == 3:
            ops[i] = Crafter(chance).value(2)
        else:
            ops.insert(i, Crafter(chance).value(2))
    return b"".join(ops)


def _opcodes(data: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(data)]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


def _other_archive(chance: random.Random, entries: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """One small record more, less, renamed or changed; storages are left at their size or cut."""
    items = list(entries.items())
    i = chance.randrange(len(items))
    name, data = items[i]
    kind = chance.randrange(6)
    if kind == 0:
        del items[i]
    elif kind == 1:
        items.append((chance.choice([name.upper(), name.swapcase(), name.title()]).replace("ARCHIVE", "archive"), data))
    elif kind == 2:
        items[i] = ("archive/" + name.removeprefix("archive/").upper(), data)
    elif kind == 3:
        items[i] = (name, data[: chance.randrange(len(data) + 1)])
    elif kind == 4:
        small = chance.choice(["version", "byteorder", ".format_version", ".storage_alignment", "BYTEORDER"])
        content = chance.choice([b"little", b"big", b"3", b"0", b"11", b"64", b"x", b"", b"1\n", b" 3", b"little\n"])
        items = [(n, d) for n, d in items if n != f"archive/{small}"] + [(f"archive/{small}", content)]
    else:
        items.append(("archive/" + chance.choice(["data/9", "extra/x", ".data/serialization_id"]), data))
    return items
