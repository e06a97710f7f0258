"""The reader against torch.load on tensors of every dtype, shape and layout: the same values, the same sharing."""

import os

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, given, settings

from tests.support.torch_reader import assert_as_torch_loads, read_back

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@st.composite
def state_dicts(draw, dtypes=DTYPES):
    """A few base storages of any dtype, each seen through several views: slices, transposes, steps, empty, 0-d."""
    state = {}
    for base in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(dtypes))
        rows, columns = draw(st.integers(0, 5)), draw(st.integers(0, 5))
        raw = torch.randint(0, 2, (rows * columns * dtype.itemsize,), dtype=torch.uint8)
        whole = raw.view(dtype).view(rows, columns) if raw.numel() else torch.empty(rows, columns, dtype=dtype)
        state[f"{base}.whole"] = whole
        for view in range(draw(st.integers(0, 4))):
            kind = draw(st.sampled_from(["same", "t", "slice", "step", "expand", "scalar", "parameter"]))
            state[f"{base}.{view}.{kind}"] = _view(whole, kind)
    return state


def _view(whole, kind):
    if kind == "t":
        return whole.t()
    if kind == "slice":
        return whole[1:, 1:]
    if kind == "step":
        return whole[::2, ::3]
    if kind == "expand" and whole.numel():
        return whole[:1, :1].expand(3, 4)
    if kind == "scalar" and whole.numel():
        return whole[-1, -1]
    if kind == "parameter" and whole.dtype.is_floating_point:
        return torch.nn.Parameter(whole, requires_grad=False)
    return whole


@given(state=state_dicts())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_zip_format_equals_torch_load(tmp_path, state):
    torch.save(state, tmp_path / "a.pt")
    assert_as_torch_loads(tmp_path / "a.pt")


@given(state=state_dicts(DTYPES[:12]))  # torch writes none of the later ones in the old format
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_legacy_format_equals_torch_load(tmp_path, state):
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert_as_torch_loads(tmp_path / "a.pt")


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=8)
        | st.binary(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(-(1 << 60), 1 << 60), inner, max_size=4),
        max_leaves=20,
    ),
    protocol=st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plain_values_of_every_protocol_come_back_equal(value, protocol):
    import pickle

    from evalcore.archive.pickle.machine import unpickle

    assert unpickle(pickle.dumps(value, protocol=protocol)).value == value


def test_a_descriptor_is_not_moved_by_reading(tmp_path):
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "a.pt")
    fd = os.open(tmp_path / "a.pt", os.O_RDONLY)
    os.lseek(fd, 7, os.SEEK_SET)
    assert torch.equal(read_back(fd)["a.weight"], torch.ones(3))
    assert os.lseek(fd, 0, os.SEEK_CUR) == 7
    os.close(fd)
