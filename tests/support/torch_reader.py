"""Our reader and torch's safe loader on the same file, for comparison."""

import warnings

import torch

from evalcore.archive.container.source import OpenFile
from evalcore.archive.payload import read_payload
from evalcore.archive.pickle.values import TensorRef
from evalcore.loading.weights import read_tensors, records_of


def read_back(path):
    """Every tensor at the top of the payload, as our reader reads it."""
    with OpenFile(path) as file:
        payload = read_payload(file)
        refs = {name: ref for name, ref in payload.root.items() if isinstance(ref, TensorRef)}
        return read_tensors(records_of(file, payload), refs)[0]


def torch_load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def torch_refuses(path):
    try:
        torch_load(path)
    except Exception:
        return True
    return False


def assert_as_torch_loads(path):
    ours, theirs = read_back(path), torch_load(path)
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        assert_same(ours[name], expected, name)
    for a in theirs:
        for b in theirs:
            shared = theirs[a].untyped_storage().data_ptr() == theirs[b].untyped_storage().data_ptr()
            plain = not any(t.is_neg() or t.is_conj() for t in (theirs[a], theirs[b]))  # ours are copies
            if theirs[a].numel() and theirs[b].numel() and plain:
                assert shared == (ours[a].untyped_storage().data_ptr() == ours[b].untyped_storage().data_ptr())


def assert_same(ours, expected, name=""):
    assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape), name
    if not (expected.is_neg() or expected.is_conj()):
        assert ours.stride() == expected.stride(), name
    assert bytes_of(ours) == bytes_of(expected), name


def bytes_of(tensor):
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return tensor.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
