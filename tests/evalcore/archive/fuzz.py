"""`python -m tests.evalcore.archive.fuzz N [--seed S]`: N random files, read by our reader and by torch's safe loader.

A difference is: other values; acceptance where torch refuses for cause; or refusal of what a plain torch.save writes,
outside the named list below. Prints the counts of files, differences, crashes, slow files and the largest memory (RSS).
Files are compared in child processes, so that a crash of torch on a crafted file ends only the child.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass

import torch

from evalcore.archive import ArchiveError, summarise
from evalcore.archive.container.source import OpenFile
from evalcore.archive.payload import Payload, read_payload
from evalcore.archive.pickle.values import InertObject, TensorRef
from evalcore.loading.weights import read_tensors, records_of
from tests.evalcore.archive.fuzz_files import File, make_file
from tests.support.torch_reader import bytes_of

CHUNK = 1000
SLOW_S = 2.0
MAX_ELEMENTS = 1 << 20  # beyond, a tensor is one number expanded: compared by its view
MEMORY_BYTES = 6 << 30
#: torch refuses these as unknown, not as wrong: an inert reader may read them
NOT_FOR_CAUSE = ("Unsupported global", "Unsupported operand", "is blocked", "must be imported to load")
#: What torch's loader calls and we keep as data: their arguments are not checked. A state dict may hold none of them.
KEPT_AS_DATA = {
    "torch.device", "torch.Tensor", "torch.serialization._get_layout", "builtins.set", "builtins.complex",
    "builtins.bytearray", "torch.nn.parameter.Parameter", "_codecs.encode", "collections.Counter", "torch.Size",
    "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor", "torch._utils._rebuild_nested_tensor",
    "__builtin__.set", "__builtin__.complex", "__builtin__.bytearray", "torch.int7",
    "torch._utils._rebuild_meta_tensor_no_storage", "torch._utils._rebuild_wrapper_subclass",
    "torch._utils._rebuild_device_tensor_from_numpy", "torch._utils._rebuild_device_tensor_from_cpu_tensor",
}  # fmt: skip
#: Written by a plain torch.save, and not read as weights: a state dict that holds one is refused by name.
NAMED_LIST = "sparse, quantised, nested and meta tensors; tensor subclasses; dtypes of less than one byte"


@dataclass(frozen=True)
class Verdict:
    """outcome: same, both_refuse, stricter (only we refuse), inert (torch does not know a name), difference, crash."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0


def compare(file: File) -> Verdict:
    """Read one file with both and compare. Our side comes first, timed."""
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, file.data)
        begin = time.perf_counter()
        try:
            ours = _ours(fd)
        except ArchiveError as error:
            ours = error
        except Exception as error:
            return Verdict("crash", f"{type(error).__name__}: {str(error)[:300]}")
        seconds = time.perf_counter() - begin
    finally:
        os.close(fd)
    try:
        theirs = torch.load(file.stream(), map_location="cpu", weights_only=True)
    except Exception as error:
        outcome, detail = _where_torch_refuses(ours, str(error))
        if outcome != "inert" or not file.plain:
            return Verdict(outcome, detail, seconds)
        theirs = torch.load(file.stream(), map_location="cpu", weights_only=False)  # made here a moment ago
    if isinstance(ours, ArchiveError):
        outcome = "difference" if file.plain else "stricter"
        return Verdict(outcome, f"we refuse: {ours.kind}: {ours.reason[:200]}", seconds)
    payload, values = ours
    problem = _mismatch(theirs, payload.root, values, file.plain)
    return Verdict("difference" if problem else "same", problem, seconds)


def _ours(fd: int) -> tuple[Payload, dict[int, torch.Tensor]]:
    """The payload and the values of each tensor in it; the summary is made too, and must be fit to be stored."""
    try:
        json.dumps(asdict(summarise(fd)), ensure_ascii=False).encode()
    except ArchiveError as error:
        error.reason.encode()
    with OpenFile(fd) as file:
        payload = read_payload(file)
        refs = {str(id(ref)): ref for ref in _tensors_in(payload.root)}
        tensors, _ = read_tensors(records_of(file, payload), refs)
    return payload, {int(key): tensor for key, tensor in tensors.items()}


def _tensors_in(root: object) -> list[TensorRef]:
    found, seen, todo = [], set(), [root]
    while todo:
        value = todo.pop()
        if isinstance(value, TensorRef):
            found.append(value)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            todo.extend(value.values() if isinstance(value, dict) else value)
    return found


def _where_torch_refuses(ours: object, message: str) -> tuple[str, str]:
    if isinstance(ours, ArchiveError):
        return "both_refuse", ""
    if any(words in message for words in NOT_FOR_CAUSE):
        return "inert", ""
    payload = ours[0]  # type: ignore[index]
    if KEPT_AS_DATA & set(payload.names):
        return "inert", ""
    return "difference", f"torch refuses: {message[:300]}"


def _mismatch(theirs: object, ours: object, values: dict[int, torch.Tensor], plain: bool) -> str:
    """The first place where the two trees differ, in words; "" where they agree."""
    todo, seen = [(theirs, ours, "root")], set()
    while todo:
        a, b, path = todo.pop()
        if (id(a), id(b)) in seen:
            continue
        if isinstance(a, torch.Tensor):
            problem = _tensor_mismatch(a, b, values, plain)
        elif isinstance(b, TensorRef):
            problem = f"a tensor where torch has {type(a).__name__}"
        elif isinstance(a, dict) and isinstance(b, dict):
            seen.add((id(a), id(b)))
            problem = "" if list(map(_key, a)) == list(map(_key, b)) else f"keys {list(a)[:5]} and {list(b)[:5]}"
            todo.extend((x, y, f"{path}.{_key(k)!s:.40}") for k, x, y in zip(a, a.values(), b.values(), strict=False))
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            seen.add((id(a), id(b)))
            problem = "" if len(a) == len(b) else f"{len(a)} items, and {len(b)}"
            todo.extend((x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=False)))
        elif isinstance(a, (str, int, float, bytes, type(None))) and not isinstance(b, InertObject):
            problem = "" if type(a) is type(b) and (a == b or a != a) else f"{a!r:.80} and {b!r:.80}"
        else:
            problem = ""
        if problem:
            return f"{path}: {problem}"
    return ""


def _key(key: object) -> object:
    """Keys that both sides hold as they are; the others stand for themselves by their place only."""
    if type(key) is float and key != key:
        return "nan"
    simple = type(key) in (str, bytes, bool, float, type(None)) or (type(key) is int and abs(key) < 1 << 60)
    return key if simple else "*"


def _tensor_mismatch(theirs: torch.Tensor, ours: object, values: dict[int, torch.Tensor], plain: bool) -> str:
    strided = theirs.layout == torch.strided and not theirs.is_quantized and not theirs.is_meta
    if not isinstance(ours, TensorRef):
        ordinary = strided and not theirs.is_nested and type(theirs) in (torch.Tensor, torch.nn.Parameter)
        if isinstance(ours, InertObject) and not (plain and ordinary):
            return ""
        return f"a tensor of {theirs.dtype} in torch, {ours!r:.80} here"
    value = values[id(ours)]
    if not strided or (value.dtype, value.shape) != (theirs.dtype, theirs.shape):
        return f"{theirs.layout} {theirs.dtype} {tuple(theirs.shape)} in torch, {value.dtype} {tuple(value.shape)} here"
    if theirs.numel() > MAX_ELEMENTS:
        same = (theirs.stride(), theirs.storage_offset()) == (value.stride(), value.storage_offset())
        return "" if same or theirs.is_neg() or theirs.is_conj() else "another view"
    return "" if bytes_of(theirs) == bytes_of(value) else f"other values of {theirs.dtype} {tuple(theirs.shape)}"


def _child(seed: int, first: int, count: int, results, progress) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in range(first, first + count):
        progress.value = index
        file = make_file(seed, index)
        verdict = compare(file)
        results.send((index, file.kind, verdict.outcome, verdict.detail, verdict.seconds))
    results.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@dataclass
class Totals:
    """Counts of a run. outcomes: by kind of file and outcome; torch_crashes: files that ended the child process."""

    outcomes: Counter[str]
    problems: list[str]
    torch_crashes: int = 0
    slow: int = 0
    rss_kib: int = 0

    @property
    def files(self) -> int:
        return sum(self.outcomes.values())

    def count(self, outcome: str) -> int:
        return sum(n for name, n in self.outcomes.items() if name.endswith(f" {outcome}"))

    def __str__(self) -> str:
        parts = [f"{self.files} files", f"{self.count('difference')} differences", f"{self.count('crash')} crashes"]
        parts += [f"{self.slow} slower than {SLOW_S:g} s", f"{self.torch_crashes} ended torch"]
        parts += [f"{self.count(name)} {name}" for name in ("same", "both_refuse", "stricter", "inert")]
        return ", ".join(parts) + f", RSS {self.rss_kib / 1024:.0f} MiB"


def run(count: int, seed: int = 0, *, chunk: int = CHUNK, say=lambda text: None) -> Totals:
    """Compare `count` files; every difference and crash is kept in `problems` with the seed and index that make it."""
    totals = Totals(Counter(), [])
    context = multiprocessing.get_context("fork")
    index, told = 0, time.monotonic()
    while index < count:
        receive, send = context.Pipe(duplex=False)
        progress = context.Value("q", index, lock=False)
        child = context.Process(target=_child, args=(seed, index, min(chunk, count - index), send, progress))
        child.start()
        send.close()
        known = len(totals.problems)
        done = _collect(receive, seed, totals)
        for problem in totals.problems[known:]:
            say(problem)
        child.join()
        if not done:  # the file ended the child: by a signal in torch
            totals.torch_crashes += 1
            totals.outcomes[f"crafted ended {child.exitcode}"] += 1
            say(f"file {seed}:{progress.value} ended the child with {child.exitcode}")
        index = progress.value + 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            say(str(totals))
    return totals


def _collect(receive, seed: int, totals: Totals) -> bool:
    """Take in a child's results; whether it came to its end."""
    while True:
        try:
            message = receive.recv()
        except EOFError:
            return False
        if isinstance(message, int):
            totals.rss_kib = max(totals.rss_kib, message)
            return True
        index, kind, outcome, detail, seconds = message
        totals.outcomes[f"{kind} {outcome}"] += 1
        totals.slow += seconds > SLOW_S
        if outcome in ("difference", "crash") and len(totals.problems) < 1000:
            totals.problems.append(f"{outcome} {seed}:{index} {kind}: {detail}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.evalcore.archive.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("files", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=int, metavar="INDEX", help="write the file of this index to fuzz.pt, and stop")
    args = parser.parse_args()
    if args.keep is not None:
        with open("fuzz.pt", "wb") as out:
            out.write(make_file(args.seed, args.keep).data)
        return 0
    totals = run(args.files, args.seed, say=lambda text: print(text, flush=True))
    for name, number in sorted(totals.outcomes.items()):
        print(f"  {name}: {number}")
    print(totals)
    return 1 if totals.problems else 0


if __name__ == "__main__":
    sys.exit(main())
