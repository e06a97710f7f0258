"""Random pickles from the pieces that torch's safe loader knows, rightly and wrongly put together."""

from __future__ import annotations

import io
import random
import struct
import zipfile

from tests.support.torch_pickles import PROTO, call, dict_of, name, number, text, tuple_of

RECORDS = {"0": 32, "1": 64, "2": 8, "A": 16}  # key -> bytes
STORAGES = ["FloatStorage", "FloatStorage", "DoubleStorage", "LongStorage", "ByteStorage", "ComplexFloatStorage",
            "UntypedStorage", "BoolStorage", "HalfStorage"]  # fmt: skip
SIZES = {"FloatStorage": 4, "DoubleStorage": 8, "LongStorage": 8, "ComplexFloatStorage": 8, "HalfStorage": 2}
ATTRIBUTES = [
    "data",
    "grad",
    "requires_grad",
    "tag",
    "real",
    "imag",
    "shape",
    "_backward_hooks",
    "T",
    "names",
    "__class__",
]
ODD_CALLS = [("torch", "device"), ("builtins", "complex"), ("builtins", "set"), ("torch", "Size"), ("torch", "float32"),
             ("torch", "FloatStorage"), ("_codecs", "encode"), ("collections", "Counter"), ("torch.nn.parameter", "Parameter"),
             ("builtins", "bytearray"), ("os", "system"), ("mylib", "Config")]  # fmt: skip


class Crafter:
    """One random pickle. Most of its values are right, so that errors are found beyond the first."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.kept = 0  # values in the memo

    def file(self) -> bytes:
        pieces = []
        for i in range(self.chance.randrange(1, 5)):
            key = self.chance.choice([f"a.{i}.weight", "model", "step", "val_loss", f"b.{i}"])
            pieces += [text(key), self.tensor() if self.chance.random() < 0.5 else self.value(0)]
        body = dict_of(*pieces)
        if self.chance.random() < 0.3:
            body = dict_of(text("model"), body)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr(zipfile.ZipInfo("archive/data.pkl"), PROTO + body + b".")
            archive.writestr(zipfile.ZipInfo("archive/byteorder"), b"little")
            for key, size in RECORDS.items():
                archive.writestr(zipfile.ZipInfo(f"archive/data/{key}"), self.chance.randbytes(size))
            archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
        return out.getvalue()

    def value(self, depth: int) -> bytes:
        chance = self.chance
        kind = chance.randrange(7 if depth > 3 else 24)
        if kind < 4:
            return chance.choice([b"N", b"\x88", b"\x89", b")", b"]", b"}", number(chance.randrange(-3, 9)), text("x"),
                                  b"U\x01a", b"U\x01\xff", b"K\x05", b"J\xff\xff\xff\xff", b"G" + struct.pack(">d", 0.5)])  # fmt: skip
        if kind == 4 and self.kept:
            return b"h%c" % chance.randrange(self.kept)
        if kind == 5 and self.kept < 200:
            inner = self.value(depth + 1)  # it may keep values of its own
            self.kept += 1
            return inner + b"q%c" % (self.kept - 1)
        if kind < 10:
            return self.tensor()
        more = lambda: self.value(depth + 1)  # noqa: E731
        return {
            10: lambda: tuple_of(*(more() for _ in range(chance.randrange(4)))),
            11: lambda: b"](" + b"".join(more() for _ in range(chance.randrange(4))) + b"e",
            12: lambda: self.mapping(depth),
            13: lambda: self.mapping(depth),
            14: lambda: more() + more() + b"b",
            15: lambda: self.tensor() + chance.choice([self.state(depth), self.set_arguments(), more()]) + b"b",
            16: lambda: more() + more() + more() + b"s",
            17: lambda: more() + more() + b"a",
            18: lambda: self.parameter(depth),
            19: lambda: self.typed(depth),
            20: lambda: name(*chance.choice(ODD_CALLS)) + tuple_of(*(more() for _ in range(chance.randrange(3)))) + chance.choice([b"R", b"\x81"]),
            21: lambda: chance.choice([b"\x85", b"\x86", b"t", b"(", b"u", b"e", b"s", b"b", b"R", b"\x81", b"Q"]),
            22: lambda: self.persistent(),
            23: lambda: more() + chance.choice([b"\x85", b"\x85\x85", more() + b"\x86"]),
        }.get(kind, more)()  # fmt: skip

    def mapping(self, depth: int) -> bytes:
        chance = self.chance
        items = [piece for _ in range(chance.randrange(3)) for piece in (self.key(), self.value(depth + 1))]
        inner = dict_of(*items)
        pairs = [tuple_of(items[i], items[i + 1]) for i in range(0, len(items), 2)]
        source = chance.choice([b"", inner, tuple_of(*pairs), b"](" + b"".join(pairs) + b"e", self.value(depth + 1)])
        cls = chance.choice([("collections", "OrderedDict")] * 4 + [("collections", "Counter")])
        made = call(*cls, tuple_of(source)) if chance.random() < 0.8 else name(*cls) + tuple_of(source) + b"\x81"
        return made + (self.state(depth) + b"b" if chance.random() < 0.3 else b"")

    def key(self) -> bytes:
        return self.chance.choice([text("a"), text("b.weight"), number(1), b"\x88", b"N", number(1 << 65),
                                   tuple_of(number(1)), tuple_of(b"\x88"), b"G" + struct.pack(">d", 1.0), b"U\x01k"])  # fmt: skip

    def persistent(self, storage: str | None = None) -> bytes:
        chance = self.chance
        storage = storage or chance.choice(STORAGES)
        key = chance.choice([*RECORDS, *RECORDS, "a", "7"]) if chance.random() < 0.1 else chance.choice(list(RECORDS))
        count = RECORDS.get(key, 8) // SIZES.get(storage, 1) + (chance.randrange(-1, 2) if chance.random() < 0.1 else 0)
        parts = [text("storage"), name("torch", storage), text(key), text("cpu"), number(max(count, 0))]
        if chance.random() < 0.06:
            i = chance.randrange(len(parts) + 1)
            parts[i : i + chance.randrange(2)] = [
                chance.choice([b"N", text("cuda:0"), number(3), b")", text("module")])
            ]
        return tuple_of(*parts) + b"Q"

    def tensor(self) -> bytes:
        chance = self.chance
        dimensions = chance.choice([0, 1, 1, 1, 2, 2, 3])
        shape = [chance.choice([0, 1, 1, 2, 2, 3]) for _ in range(dimensions)]
        stride = [chance.choice([0, 1, 1, 1, 2, 3]) for _ in range(dimensions)]
        if chance.random() < 0.05 and dimensions:
            shape[0] = chance.choice([1 << 32, 1 << 62, 1 << 63, -1, 9])
        if chance.random() < 0.03 and dimensions:
            stride[0] = chance.choice([1 << 32, 1 << 62, 1 << 63, -1])
        offset = chance.choice([0, 0, 0, 1, 2, 100, -1]) if chance.random() < 0.3 else 0
        version = chance.choice(["", "_v2", "_v2", "_v2", "_v3"])
        args = [self.persistent(), number(offset), tuple_of(*map(number, shape)), tuple_of(*map(number, stride))]
        if version:
            hooks = chance.choice([call("collections", "OrderedDict", b")"), b"N", b"}", b"N", number(1)])
            args += [b"\x88" if chance.random() < 0.15 else b"\x89", hooks]
        if version == "_v3":
            args.append(name("torch", chance.choice(["float32", "uint16", "uint8", "float8_e5m2", "int7", "float32"])))
        if version and chance.random() < 0.25:
            args.append(self.metadata())
        if chance.random() < 0.04:
            i = chance.randrange(len(args))
            args[i : i + 1] = [self.value(4)] * chance.randrange(3)
        return call("torch._utils", f"_rebuild_tensor{version}", tuple_of(*args))

    def metadata(self) -> bytes:
        chance = self.chance
        bit = chance.choice([b"\x88", b"\x88", b"\x89", number(1), b"N"])
        return chance.choice([b"N", b"}", dict_of(text("neg"), bit), dict_of(text("conj"), bit),
                              dict_of(text("neg"), b"\x88", text("conj"), bit), dict_of(text("x"), bit), number(0), b")"])  # fmt: skip

    def set_arguments(self) -> bytes:
        return tuple_of(self.persistent("FloatStorage"), number(0), tuple_of(number(2)), tuple_of(number(1)))

    def state(self, depth: int) -> bytes:
        chance = self.chance
        pieces = [
            p for _ in range(chance.randrange(1, 3)) for p in (text(chance.choice(ATTRIBUTES)), self.value(depth + 1))
        ]
        inner = dict_of(*pieces)
        return chance.choice([inner, inner, b"N", b"}", tuple_of(inner, b"N"), tuple_of(b"N", inner), tuple_of(inner)])

    def parameter(self, depth: int) -> bytes:
        chance = self.chance
        data = self.tensor() if chance.random() < 0.9 else self.value(depth + 1)
        args = [data, chance.choice([b"\x88", b"\x89", b"\x89", b"N"]), chance.choice([b"N", b"}", b"N", b")"])]
        if chance.random() < 0.6:
            return call("torch._utils", "_rebuild_parameter_with_state", tuple_of(*args, self.state(depth)))
        return call("torch._utils", "_rebuild_parameter", tuple_of(*args))

    def typed(self, depth: int) -> bytes:
        chance = self.chance
        inner = tuple_of(self.set_arguments()[1:-1] + b"\x89N")  # its items, without the tuple around them
        function = chance.choice(["_rebuild_tensor_v2", "_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter"])
        cls = chance.choice(
            [("torch", "Tensor"), ("torch", "Tensor"), ("torch.nn.parameter", "Parameter"), ("mylib", "T")]
        )
        parts = [name("torch._utils", function), name(*cls), inner, self.state(depth)]
        if chance.random() < 0.1:
            parts[chance.randrange(4)] = self.value(depth + 1)
        return call("torch._tensor", "_rebuild_from_type_v2", tuple_of(*parts))
