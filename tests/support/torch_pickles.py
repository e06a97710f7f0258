"""Pieces of pickles as torch.save writes them (protocol 2), to be put together into ones that it does not write."""

import struct

PROTO = b"\x80\x02"


def text(value):
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def name(module, attribute):
    return b"c" + f"{module}\n{attribute}\n".encode()


def tuple_of(*items):
    return b"(" + b"".join(items) + b"t"


def dict_of(*items):
    return b"}(" + b"".join(items) + b"u"


def call(module, attribute, args):
    return name(module, attribute) + args + b"R"


def persistent(key, *, storage="FloatStorage", count=2, location=None):
    cls = name("torch", storage)
    return tuple_of(text("storage"), cls, text(key), location or text("cpu"), number(count)) + b"Q"


def tensor(key, *, storage="FloatStorage", count=2, offset=0, shape=None, stride=(1,), gradient=False):
    shape = (count,) if shape is None else shape
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        tuple_of(
            persistent(key, storage=storage, count=count),
            number(offset),
            tuple_of(*map(number, shape)),
            tuple_of(*map(number, stride)),
            b"\x88" if gradient else b"\x89",
            call("collections", "OrderedDict", b")"),
        ),
    )
