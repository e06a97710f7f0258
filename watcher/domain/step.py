"""The training step of a checkpoint: read from its name, and chosen between name and payload. Pure.

A number in a name is the step only where nothing else explains it: sizes (124M), losses (3.45), dates, versions, seeds,
ranks, shards and settings (lr3e-4) are none. The step is NULL rather than a guess between two readings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STEP_MAX = 2**63 - 1


@dataclass(frozen=True)
class Step:
    """A training step and where it was read (`payload:iter_num`, `name`, `name:last number`); None "" if unknown."""

    value: int | None
    source: str


UNKNOWN = Step(None, "")
NAME, LAST_NUMBER, EPOCH = "name", "name:last number", "name:epoch"

#: 5000, 10_000, 10k, 1.5M, 1e5
_NUMBER = r"(\d+(?:_000)+(?!\d)|\d+(?:\.\d+(?=[km]))?)([km]|e\d{1,2})?(?![a-z\d]|\.\d)"
#: a label before its number; of a training's whole length where one of _WHOLE stands before it
_LABELLED = re.compile(
    r"(?:step|steps|iter|iters|iteration|iterations|updates?|(?<![a-z])it|(?<![a-z])ba|(?<![a-z\d])s(?=\d{3}))"
    rf"[-_=. ]?{_NUMBER}"
)
_LABEL_AFTER = re.compile(
    r"(?<![a-z\d.])(\d+(?:_000)+(?!\d)|\d+(?:\.\d+(?=[km]))?)([km])?"
    r"[-_ ]?(?:steps?|iters?|iterations?|updates?)(?![a-z])"
)
_WHOLE = re.compile(r"(?<![a-z])(?:(?:max|total|num|n|warmup|decay|save|eval|log|every|grad|accum)[-_]?|of[-_])$")
#: a folder that is one checkpoint: step_100, global_step30, step1000-unsharded, iter_0005000, 0000001000
_FOLDER = re.compile(
    r"(?:global[-_]?step|step|iter|iteration|checkpoint|ckpt|ba)[-_=]?(\d+)(?:-unsharded|-ckpt|-hf)?|(\d{7,12})"
)
_FOLDER_PART = re.compile(r"(?:(?:step|iter|iteration|checkpoint)[-_=]|(?<![a-z])ba)(\d+)(?![a-z\d]|\.\d)")
_EPOCH = re.compile(r"(?<![a-z\d])(?:epochs?|ep|e)[-_=]?(\d+)(?![a-z\d]|\.\d)|(?<![a-z\d.])(\d+)[-_]?epochs?(?![a-z])")
_DATE = r"(?:19|20)\d\d(?:(?P<sep>[-_.]?)(?:0[1-9]|1[0-2])(?P=sep)(?:0[1-9]|[12]\d|3[01]))"
_NO_STEP = re.compile(
    r"(?<![a-z\d])[a-f\d]{8}(?:-[a-f\d]{4}){3}-[a-f\d]{12}(?![a-z\d])"  # a UUID
    r"|(?<![a-z\d])(?=\d*[a-f]\d*[a-f])(?=[a-f]*\d)[a-f\d]{7,}(?![a-z\d])"  # a hash; e0001000 is none
    rf"|(?<!\d){_DATE}(?:[-_t. ]*(?:[01]\d|2[0-3])[-_.:h]?[0-5]\d(?:[-_.:m]?[0-5]\d)?)?(?!\d)"  # 20240501_120000
    r"|(?<!\d)(?:0[1-9]|[12]\d|3[01])([-_.])(?:0[1-9]|[12]\d|3[01])\2(?:19|20)\d\d(?!\d)"  # 05-11-2024
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\d\d_\d\d-\d\d-\d\d"  # Nov05_10-30-00
    r"|(?<!\d)1[5-9]\d{8}(?:\d{3})?(?!\d)"  # seconds or milliseconds since 1970
    r"|[-_. ]?v(?:er(?:sion)?)?[-_.]?\d+(?:\.\d+)*(?![a-z\d])"  # -v1, v0.3
    r"|\d+(?:\.\d+)?e[-+]?\d+"  # 3e-4
    r"|\d+\.\d+[a-z]*"  # 3.4512, 1.5b; model.1000 is none
    r"|[-_ ]?\(\d+\)$"  # a browser's copy
    r"|(?<=[=_ ])-\d+"  # step_-1
    r"|\d+ ?(?:%|pct|percent)"
)
_EXTENSION = re.compile(r"(?:\.(?:pt|pth|ckpt|bin|safetensors|tar|pkl|model|npz|torch))+$")
#: 5_000 or 1_000_000: one number with separators
_THOUSANDS = re.compile(r"(?<![a-z\d._-])(\d{1,3}(?:_000)+)(?!\d)|(?<=[a-z][_-])([1-9]\d{0,2}(?:_000)+)(?!\d)")
#: ckpt_1.5k is a step, ckpt_1.3b a size
_WEAK_DECIMAL = re.compile(
    r"((?:checkpoint|ckpt|model|state|snapshot|weights|net|save)[-_=. ]?)(\d+\.\d+)([kmb])(?![a-z\d])"
)
_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")  # 1,000
_SHARD = re.compile(r"(\d+)[-_]?of[-_]?(\d+)")
#: the last word of a name that is followed by its step
_WEAK = ("checkpoint", "ckpt", "model", "state", "snapshot", "weights", "net", "save")
#: words whose number is another fact
_OTHER = {
    "seed", "rank", "epoch", "epochs", "ep", "e", "loss", "val", "acc", "accuracy", "ppl", "bpb", "score", "lr", "wd",
    "bs", "batch", "size", "ctx", "context", "seq", "len", "block", "vocab", "dim", "d", "embd", "hidden", "head",
    "heads", "h", "layer", "layers", "l", "n", "depth", "width", "world", "gpu", "gpus", "node", "nodes", "shard",
    "shards", "part", "tp", "pp", "dp", "mp", "run", "exp", "trial", "fold", "job", "pid", "token", "tokens", "tok",
    "toks", "params", "top", "copy", "consolidated", "version", "v", "temp", "dropout", "warmup", "total", "max", "of",
    "steps", "iters", "slurm", "release", "bpe", "averaged", "samples", "from", "since",
}  # fmt: skip
#: names of models that carry a version of one digit
_MODELS = {
    "gpt", "llama", "phi", "qwen", "gemma", "mistral", "olmo", "pythia", "bert", "opt", "bloom", "falcon", "deepseek",
}  # fmt: skip
#: words that say what the number before them counts
_UNITS = {
    "epochs", "layer", "layers", "head", "token", "heads", "tokens", "tok", "params", "million", "billion", "gpus",
    "gpu", "shards", "of", "samples",
}  # fmt: skip
#: letters after the number of parameters: the step of `ckpt-350m-20k` comes after it
_SIZES = {"m", "b"}
_TOKENS = re.compile(r"[a-z]+|\d+|[^a-z\d]+")


def step_from_name(path: str) -> Step:
    """The step in a path. Labelled numbers of the file name come first, then its folder's, then other numbers."""
    parts = [part.lower() for part in path.split("/") if part]
    if not parts:
        return UNKNOWN
    parts[-1] = _COMMA.sub("", parts[-1])
    stem, folders = _EXTENSION.sub("", parts[-1]), parts[-2::-1]
    ways = (
        lambda: _labelled(stem),
        lambda: _first(_of_folder(folder) for folder in folders),
        lambda: _unlabelled(_without_other_numbers(stem)),
        lambda: _first(_found(_FOLDER_PART.findall(folder), NAME) for folder in folders),
        lambda: _first(_found([a or b for a, b in _EPOCH.findall(part)], EPOCH) for part in (stem, *folders)),
    )
    return _first(way() for way in ways)


def choose_step(payload: Step, name: Step, width: int | None = None) -> Step:
    """The payload's step stands before the name's, unless its key is often a training's planned length.

    width: of the model. A last number that equals it is no step: minimind's pretrain_768.pth.
    """
    if payload.value is None:
        return UNKNOWN if name.source == LAST_NUMBER and name.value == width else name
    key = payload.source.rpartition(":")[2]
    doubtful = (key in PLANNED_KEYS and name.source in (NAME, LAST_NUMBER)) or (key == "iter" and name.source == NAME)
    if not doubtful or name.value == payload.value:
        return payload
    return Step(name.value, f"{name.source} ({payload.source} is {payload.value}, taken as the planned total)")


#: keys of a payload that hold a step in some trainers and the planned number of steps in others
PLANNED_KEYS = ("steps", "num_steps")


def _first(steps) -> Step:
    return next((step for step in steps if step.value is not None), UNKNOWN)


def _found(digits: list[str], source: str) -> Step:
    return _bounded(digits[-1], "", source) if digits else UNKNOWN


def _labelled(stem: str) -> Step:
    for pattern in (_LABELLED, _LABEL_AFTER):
        matches = [m for m in pattern.finditer(stem) if not _WHOLE.search(stem, 0, m.start())]
        if matches:
            return _bounded(matches[-1].group(1), matches[-1].group(2) or "", NAME)
    return UNKNOWN


def _of_folder(folder: str) -> Step:
    match = _FOLDER.fullmatch(folder)
    if match is None or _NO_STEP.fullmatch(folder):
        return UNKNOWN
    return _bounded(match.group(1) or match.group(2), "", NAME)


def _progress(match: re.Match[str]) -> str:
    """`0001000-of-0010000` is progress, `00001-of-00002` a shard: files are cut into fewer than 1,000 shards."""
    return match.group(1) if int(match.group(2)[:20]) >= 1000 else "~"


def _without_other_numbers(stem: str) -> str:
    for match in [m for m in _LABELLED.finditer(stem) if _WHOLE.search(stem, 0, m.start())]:  # max_iter_1000
        stem = stem[: match.start()] + "~" * len(match.group()) + stem[match.end() :]
    stem = _NO_STEP.sub("~", _WEAK_DECIMAL.sub(_multiplied, stem))
    return _THOUSANDS.sub(_joined, _SHARD.sub(_progress, stem))


def _multiplied(match: re.Match[str]) -> str:
    number = round(float(match.group(2)[:20]) * 1000) if match.group(3) == "k" else ""
    return f"{match.group(1)}{number}"


def _joined(match: re.Match[str]) -> str:
    return match.group().replace("_", "")


def _unlabelled(stem: str) -> Step:
    """The last number that nothing else explains; one that follows a word for checkpoints stands before others."""
    tokens = _TOKENS.findall(stem)
    candidates: list[tuple[bool, str, str]] = []
    after_weak = size_after_weak = False
    for i, token in enumerate(tokens):
        if token.isdigit():
            thousand = "k" if tokens[i + 1 : i + 2] == ["k"] else ""
            size_after_weak = after_weak
            after_weak = _is_step(tokens, i, after_weak, thousand)
            if after_weak or _is_number_of_its_own(tokens, i, thousand):
                candidates.append((after_weak, token, thousand))
        elif token[0].isalpha():
            after_weak = token.endswith(_WEAK) or (size_after_weak and token in _SIZES)
        elif "~" in token:
            after_weak = False
    if not candidates:
        return UNKNOWN
    weak = [candidate for candidate in candidates if candidate[0]]
    _, digits, thousand = (weak or candidates)[-1]
    return _bounded(digits, thousand, NAME if weak else LAST_NUMBER)


def _is_step(tokens: list[str], i: int, after_weak: bool, thousand: str) -> bool:
    """Whether the number follows a word for checkpoints, directly or after another number of the same kind."""
    return after_weak and not _has_unit(tokens, i, thousand)


def _is_number_of_its_own(tokens: list[str], i: int, thousand: str) -> bool:
    if thousand or _has_unit(tokens, i, thousand):
        return False
    before = tokens[i - 1] if i else ""
    attached = before[:1].isalpha()
    word = before if attached else _word_before(tokens, i)
    if word in _OTHER or (word in _MODELS and len(tokens[i]) == 1):
        return False
    if len(tokens[i]) == 2 and tokens[i][0] == "0" and word:  # the second of a few, as in mnist-02
        return False
    return not attached or len(tokens[i]) >= 4


def _has_unit(tokens: list[str], i: int, thousand: str) -> bool:
    """Whether letters follow the number, directly (124m) or as a word of their own (12_layers)."""
    if thousand:
        return len(tokens) > i + 2 and tokens[i + 2][0].isalnum()
    after = tokens[i + 1] if len(tokens) > i + 1 else ""
    return after[:1].isalpha() or (after != "" and tokens[i + 2 : i + 3] != [] and tokens[i + 2] in _UNITS)


def _word_before(tokens: list[str], i: int) -> str:
    """The word before the number and one separator; "" where it is another number or the unit of one."""
    if i < 2 or not tokens[i - 2][0].isalpha() or "~" in tokens[i - 1]:
        return ""
    is_unit = i >= 3 and tokens[i - 3].isdigit()  # as in 8gpus_3000
    return "" if is_unit else tokens[i - 2]


def _bounded(digits: str, multiple: str, source: str) -> Step:
    number = float(digits) if "." in digits else int(digits.replace("_", "")[:20])
    factor = 10 ** int(multiple[1:]) if multiple[:1] == "e" else {"k": 1000, "m": 1_000_000}.get(multiple, 1)
    value = int(number * factor)
    return Step(value, source) if value <= STEP_MAX else UNKNOWN
