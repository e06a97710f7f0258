"""Files on which our reader and torch's safe loader once differed: now the same values, or a refusal."""

import inspect
import io
import json
import struct
import zipfile
from collections import Counter, OrderedDict, defaultdict

import pytest
import safetensors.torch
import torch

from evalcore.archive import ArchiveError, summarise
from evalcore.archive.container.safetensors import read_header
from evalcore.archive.container.source import OpenFile
from evalcore.archive.meaning.state_dicts import find_states
from evalcore.archive.payload import read_payload
from evalcore.archive.pickle.tensors import TENSOR_PROPERTIES
from evalcore.loading.weights import RangeRecords, read_tensors
from tests.support import checkpoints as make
from tests.support.torch_pickles import PROTO, call, dict_of, floats, name, number, persistent, tensor, text, tuple_of
from tests.support.torch_reader import assert_as_torch_loads, read_back, torch_refuses


def refusal(path):
    with pytest.raises(ArchiveError) as caught:
        summarise(path)
    return caught.value


def crafted(path, value, records=None):
    return make.write_pickle_in_zip(path, PROTO + value + b".", records or {"0": floats(1, 2), "1": floats(5, 6)})


def assert_refused_by_both(path, kind):
    assert torch_refuses(path)
    error = refusal(path)
    assert error.kind == kind, error.reason
    return error


# ---- what a plain torch.save writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_negated_and_conjugated_tensors_have_the_values_that_torch_loads(tmp_path, legacy):
    values = torch.tensor([1 + 2j, 3 - 4j, -5j])
    state = {
        "a.neg": torch._neg_view(torch.tensor([1.0, -2.0])),
        "a.conj": values.conj(),
        "a.imag": torch.tensor([1 + 2j, 3 - 4j, -5j]).conj().imag,
        "a.both": torch._neg_view(values.conj()),
        "a.parameter": torch.nn.Parameter(values.conj()),
        "a.plain": values,
    }
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert_as_torch_loads(tmp_path / "a.pt")
    assert read_back(tmp_path / "a.pt")["a.imag"].tolist() == [-2.0, 4.0, 5.0]


def test_a_negated_step_is_negative_and_so_none(tmp_path):
    torch.save({"model": make.rosellm_state(), "step": torch._neg_view(torch.tensor(7))}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").step is None


def test_parameters_and_tensors_with_python_attributes_keep_their_values(tmp_path):
    parameter = torch.nn.Parameter(torch.arange(3.0))
    parameter.no_weight_decay = True
    tagged = torch.arange(4.0)
    tagged.tag = {"lr": 1}
    torch.save({"a.weight": parameter, "a.bias": tagged}, tmp_path / "a.pt")
    assert_as_torch_loads(tmp_path / "a.pt")


def test_an_empty_storage_seen_as_two_dtypes_is_read(tmp_path):
    empty = torch.empty(0)
    torch.save({"a.weight": torch.ones(2), "a.f": empty, "a.i": empty.view(torch.int32)}, tmp_path / "a.pt")
    assert_as_torch_loads(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "mapping",
    [OrderedDict, Counter, lambda items: defaultdict(int, items), dict],
    ids=["OrderedDict", "Counter", "defaultdict", "dict"],
)
def test_a_state_dict_in_any_mapping_of_the_standard_library_is_found(tmp_path, mapping):
    torch.save({"model": mapping({"a.weight": torch.ones(2)})}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").states == ["model"]


def test_sparse_quantised_nested_and_meta_tensors_are_named_not_measured(tmp_path):
    strange = {
        "_rebuild_sparse_tensor": torch.eye(3).to_sparse(),
        "_rebuild_qtensor": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "_rebuild_meta_tensor_no_storage": torch.empty(3, device="meta"),
    }
    for words, value in strange.items():
        torch.save({"model": {"a.weight": torch.ones(2), "b.weight": value}}, tmp_path / "a.pt")
        with OpenFile(tmp_path / "a.pt") as file:
            assert words in read_payload(file).root["model"]["b.weight"].class_name
        assert summarise(tmp_path / "a.pt").tensors == [("a.weight", "float32", (2,))]


# ---- crafted --------------------------------------------------------------------------------------------------------


def test_a_mapping_made_of_another_mapping_has_its_items(tmp_path):
    inner = dict_of(text("a.weight"), tensor("0"))
    path = crafted(tmp_path / "a.pt", call("collections", "OrderedDict", tuple_of(inner)))
    assert_as_torch_loads(path)
    assert read_back(path)["a.weight"].tolist() == [1.0, 2.0]
    pairs = tuple_of(tuple_of(text("a.weight"), tensor("1")))
    path = crafted(tmp_path / "a.pt", call("collections", "OrderedDict", tuple_of(pairs)))
    assert_as_torch_loads(path)


def test_a_new_mapping_that_would_lose_its_arguments_is_refused(tmp_path):
    inner = dict_of(text("a.weight"), tensor("0"))
    path = crafted(tmp_path / "a.pt", name("collections", "OrderedDict") + tuple_of(inner) + b"\x81")
    assert len(torch.load(path, weights_only=True)) == 0  # OrderedDict.__new__ ignores them
    assert refusal(path).kind == "corrupt"


def test_the_state_of_a_tensor_or_parameter_is_refused_not_ignored(tmp_path):
    other = tuple_of(persistent("1"), number(0), tuple_of(number(2)), tuple_of(number(1)))
    parameter = call("torch._utils", "_rebuild_parameter", tuple_of(tensor("0"), b"\x89", b"N"))
    for value in (tensor("0"), parameter):
        path = crafted(tmp_path / "a.pt", dict_of(text("a.weight"), value + other + b"b"))
        assert torch.load(path, weights_only=True)["a.weight"].tolist() == [5.0, 6.0]  # not those of its own storage
        assert refusal(path).kind == "unsafe"


@pytest.mark.parametrize("attribute", ["data", "real", "requires_grad", "__class__"])
def test_attributes_that_replace_a_tensors_values_are_refused(tmp_path, attribute):
    state = dict_of(text(attribute), tensor("1"))
    parts = tuple_of(tensor("0"), b"\x89", b"N", state)
    path = crafted(
        tmp_path / "a.pt", dict_of(text("a.weight"), call("torch._utils", "_rebuild_parameter_with_state", parts))
    )
    assert refusal(path).kind == "unsafe"
    inner = tuple_of(persistent("0"), number(0), tuple_of(number(2)), tuple_of(number(1)), b"\x89", b"N")
    parts = tuple_of(name("torch._utils", "_rebuild_tensor_v2"), name("torch", "Tensor"), inner, tuple_of(b"N", state))
    path = crafted(tmp_path / "a.pt", dict_of(text("a.weight"), call("torch._tensor", "_rebuild_from_type_v2", parts)))
    assert refusal(path).kind == "unsafe"


def test_the_list_of_a_tensors_properties_is_torchs_own():
    cls = torch.nn.Parameter
    own = {n for n in dir(cls) if inspect.isdatadescriptor(inspect.getattr_static(cls, n)) and not n.startswith("__")}
    own.discard("is_sim")  # where the simulated accelerator of another test was made known to torch
    assert own <= TENSOR_PROPERTIES


def test_a_tensor_subclass_is_no_plain_tensor(tmp_path):
    inner = tuple_of(persistent("0"), number(0), tuple_of(number(2)), tuple_of(number(1)), b"\x89", b"N")
    parts = tuple_of(name("torch._utils", "_rebuild_tensor_v2"), name("mylib", "ScaledTensor"), inner, b"N")
    value = call("torch._tensor", "_rebuild_from_type_v2", parts)
    path = crafted(tmp_path / "a.pt", dict_of(text("a.weight"), value, text("b.weight"), tensor("1")))
    assert [n for n, _, _ in summarise(path).tensors] == ["b.weight"]
    with OpenFile(path) as file:
        assert read_payload(file).root["a.weight"].class_name == "mylib.ScaledTensor"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (tensor("0", storage="LongStorage", count=1, gradient=True), "corrupt"),  # integers have no gradient
        (call("torch._utils", "_rebuild_tensor_v2", tuple_of(persistent("0"), number(0))), "corrupt"),
        (call("torch", "float32", tuple_of()), "corrupt"),
        (persistent("2"), "corrupt"),  # no such record
        (persistent("0", storage="uint16"), "corrupt"),  # a dtype in the place of a class of storages
        (persistent("0", count=1), "shape"),
        (b"\x85", "corrupt"),  # a tuple of what lies below the mark
        (b"U\x02\xff\xfe", "corrupt"),  # a text of Python 2 that is not UTF-8
        (tensor("0", shape=(1 << 32, 1 << 32), stride=(0, 0)), "shape"),  # 2^64 elements
        (tensor("0") + b"}b", "unsafe"),
        (b"}}\x85\x85Ns", "corrupt"),  # a mapping within a tuple as a key
        (call("torch._utils", "_rebuild_parameter", tuple_of(b"cmylib\nf\n)R", b"N", b"N")), "corrupt"),
        (b"\x8fNNs", "corrupt"),  # an item set on a set
        (b"\x8f(Ne", "corrupt"),
        (b"\x8f}b", "unsafe"),
        (b"cbuiltins\nset\n)R(N\x90", "corrupt"),
        (b"}}b", "unsafe"),  # a plain dict has no attributes
        (
            call(
                "torch._utils", "_rebuild_tensor_v2",
                tuple_of(
                    persistent("0"), number(0), tuple_of(number(2)), tuple_of(number(1)), b"\x89", b"}", b"}N\x88s"
                ),
            ),
            "corrupt",  # metadata under a key that is not text
        ),
        (
            call(
                "torch._utils", "_rebuild_tensor_v2",
                tuple_of(
                    call(
                        "torch._utils", "_rebuild_tensor_v2",
                        tuple_of(
                            persistent("0"), number(0), tuple_of(number(2)), tuple_of(number(1)),
                            b"\x89", b"}", dict_of(text("x"), b"\x88"),
                        ),
                    ),
                    number(0), tuple_of(number(2)), tuple_of(number(1)), b"\x89", b"}",
                ),
            ),
            "corrupt",  # a tensor with unknown metadata in the place of a storage
        ),
        (
            call(
                "torch._utils", "_rebuild_parameter",
                tuple_of(
                    call(
                        "torch._utils", "_rebuild_tensor_v2",
                        tuple_of(
                            persistent("0", storage="BoolStorage"), number(0), tuple_of(number(2)),
                            tuple_of(number(0)), b"\x89", b"}", dict_of(text("neg"), b"\x88"),
                        ),
                    ),
                    b"\x88", b"}",
                ),
            ),
            "corrupt",  # a negated bool has no gradient
        ),
    ],
)  # fmt: skip
def test_what_torch_refuses_for_cause_is_refused(tmp_path, value, kind):
    assert_refused_by_both(crafted(tmp_path / "a.pt", b"(" + text("a") + value + b"d"), kind)


# ---- the archive around the pickle ----------------------------------------------------------------------------------


def rewritten(path, change):
    """The file with its entries changed by `change(name below the top folder, data) -> [(name, data)]`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for full in old.namelist():
            for below, data in change(full.split("/", 1)[1], old.read(full)):
                new.writestr(f"archive/{below}", data)
    path.write_bytes(buffer.getvalue())
    return path


def saved(tmp_path):
    torch.save({"model": make.rosellm_state(), "step": 1}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


@pytest.mark.parametrize(
    ("changed", "entry", "kind"),
    [
        ("data/0", ("DATA/0", bytes(64 * 16 * 4)), "corrupt"),
        ("byteorder", ("byteorder", b"middle"), "corrupt"),
        ("byteorder", ("byteorder", b"little" + b" " * 20), "corrupt"),
        ("version", ("version", b"99\n"), "unsupported"),
        (".storage_alignment", (".storage_alignment", b"wide"), "corrupt"),
    ],
)
def test_records_that_torch_refuses_are_refused(tmp_path, changed, entry, kind):
    both = changed == "data/0"

    def change(below, data):
        if below != changed:
            return [(below, data)]
        return [(below, data), entry] if both else [entry]

    path = rewritten(saved(tmp_path), change)
    assert refusal(path).kind == kind
    assert both or torch_refuses(path)  # of two records, torch takes either


def test_an_archive_without_a_version_is_not_of_torch(tmp_path):
    path = rewritten(saved(tmp_path), lambda n, d: [(n, d)] if n != "version" else [])
    assert "version" in assert_refused_by_both(path, "corrupt").reason


def test_a_byte_order_under_another_case_swaps_torchs_values_and_is_refused(tmp_path):
    path = rewritten(saved(tmp_path), lambda n, d: [("BYTEORDER", b"big")] if n == "byteorder" else [(n, d)])
    assert not torch.equal(torch.load(path)["model"]["ln_f.weight"], make.rosellm_state()["ln_f.weight"])
    assert "BYTEORDER" in refusal(path).reason


def test_a_legacy_file_of_another_protocol_or_with_an_unused_storage_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a.weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xea\x03.", 1))
    assert_refused_by_both(path, "corrupt")
    keys = whole.rindex(b"X\x0f\x00\x00\x00" if b"X\x0f\x00\x00\x00" in whole else b"X", 0, len(whole) - 16)
    length = struct.unpack_from("<I", whole, keys + 1)[0]
    path.write_bytes(whole[: keys + 5] + b"9" * length + whole[keys + 5 + length :])
    assert_refused_by_both(path, "corrupt")


# ---- safetensors ----------------------------------------------------------------------------------------------------


def safetensors_file(path, header, data=bytes(16)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, "corrupt"),  # an overlap
        ({"a": entry(0, 8)}, "corrupt"),  # bytes that no tensor has
        ({"a": entry(8, 16)}, "corrupt"),  # a gap
        (b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 16, (4,))).encode(),) * 2), "corrupt"),
        ({"a": entry(0, 16, (4,), "F4")}, "unsupported"),
        ({"a\x1b": entry(0, 16, (4,))}, "unsupported"),
        ({"w" * 2000: entry(0, 16, (4,))}, "unsupported"),
        ({"a": entry(0, 16, (1 << 62, 1 << 62))}, "shape"),
        (b"[" * 100_000, "corrupt"),
    ],
)
def test_a_safetensors_header_that_is_ambiguous_or_forbidden_is_refused(tmp_path, header, kind):
    path = safetensors_file(tmp_path / "model.safetensors", header)
    with OpenFile(path) as file, pytest.raises(ArchiveError) as caught:
        read_header(file, "")
    assert caught.value.kind == kind, caught.value.reason


def test_a_good_safetensors_header_gives_every_tensor_its_place(tmp_path):
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7, dtype=torch.int64), "c": torch.empty(0, 4)}
    safetensors.torch.save_file(state, tmp_path / "m.safetensors", metadata={"format": "pt"})
    with OpenFile(tmp_path / "m.safetensors") as file:
        refs, ranges = read_header(file, "")
        tensors, _ = read_tensors(RangeRecords(ranges), refs)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {n: t.tolist() for n, t in state.items()}


# ---- parts of modules and mappings ----------------------------------------------------------------------------------


class Mapping(dict):
    """A subclass of dict, as configuration libraries have them."""


def test_a_state_dict_in_a_subclass_of_dict_is_found(tmp_path):
    torch.save(Mapping(model=Mapping({"a.weight": torch.ones(2)}), step=3), tmp_path / "a.pt")
    summary = summarise(tmp_path / "a.pt")
    assert (summary.states, summary.step) == (["model"], 3)


def test_a_module_with_a_parameter_that_is_no_plain_tensor_names_it(tmp_path):
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.eye(2).to_sparse())
    torch.save(module, tmp_path / "a.pt")
    with OpenFile(tmp_path / "a.pt") as file:
        state = next(iter(find_states(read_payload(file).root).values()))
    assert state.others == {"mask": "a sparse tensor"}
