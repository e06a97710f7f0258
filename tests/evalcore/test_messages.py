"""Messages between daemon and worker: read back as written, anything else refused by field."""

import dataclasses
import json
import math

import pytest

from evalcore.messages import (
    AttemptRequest,
    ContractError,
    EvalSetSpec,
    Item,
    LaunchSpec,
    Measurement,
    ModelSpec,
    Outcome,
    SampleSpec,
    TaskSpec,
    from_json,
    to_json,
)

MEASUREMENT = Measurement(
    loss=math.nan, ppl=None, bits_per_byte=math.inf, loss_stderr=0.5, finite=False, tokens=9, bytes=None, seq_len=4,
    stride=4, batch_size=1, dtype="float32", device="cpu", world_size=2, load_seconds=0.1, eval_seconds=1,
    tokens_per_second=9.0, peak_memory_bytes=7, window_nats=(1.5, -math.inf), window_targets=(4, 5),
)  # fmt: skip
SPEC = EvalSetSpec("val", ("/data/val.bin",), stamps=("1:2:3:4", "absent"), companions=("/data/meta.pkl",))
MESSAGES = [
    Item("/a/\udcff.pt", "sha256:1", 3, (AttemptRequest(1, "token", "val"), AttemptRequest(2, "other", "val"))),
    LaunchSpec("launch", (dataclasses.replace(SPEC, task=TaskSpec("arc_easy", "arc", "core", 10, bos=True)),)),
    LaunchSpec("launch", (SPEC,), ModelSpec("m:f", {"n_head": 2, "deep": {"a": [1]}}, None, ("/code",)), threads=None),
    Outcome(1, "token", "failed", "data", "reason", None),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_back_as_it_was_written(message):
    assert from_json(type(message), to_json(message)) == message


def test_numbers_that_are_not_finite_pass_through_strict_json():
    text = to_json(Outcome(1, "token", "succeeded", measurement=MEASUREMENT))
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    measured = from_json(Outcome, text).measurement
    assert math.isnan(measured.loss) and measured.bits_per_byte == math.inf
    assert measured.window_nats == (1.5, -math.inf) and measured.window_targets == (4, 5)
    assert measured.eval_seconds == 1.0 and isinstance(measured.eval_seconds, float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 0}, "Outcome.version is 0; this is version 1"),
        ({"version": None}, "Outcome.version is None"),
        ({"colour": 1}, "unknown fields: colour"),
        ({"attempt": "1"}, "Outcome.attempt is '1', expected int"),
        ({"attempt": True}, "Outcome.attempt is 'True', expected int"),
        ({"status": "fine"}, "outcome.status is 'fine', not one of succeeded"),
        ({"kind": "bad luck"}, "outcome.kind is 'bad luck'"),
        ({"status": "succeeded"}, "neither measurement nor samples"),
        ({"measurement": [1]}, "Measurement is a list, not an object"),
        ({"measurement": {"loss": 1.0}}, "Measurement: "),
    ],
)
def test_what_does_not_follow_the_contract_is_refused_by_field(changes, words):
    fields = {**json.loads(to_json(MESSAGES[3])), **changes}
    with pytest.raises(ContractError, match=words):
        from_json(Outcome, json.dumps(fields))


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"attempt": NaN}', "[" * 100_000, '{"attempt": 1}'])
def test_text_that_is_no_message_is_refused(text):
    with pytest.raises(ContractError):
        from_json(Outcome, text)


#: Fields of an eval set that do not move the number, and those that a digest of content stands for.
NOT_COUNTED = {"name", "paths", "stamps", "companions", "suite"}
OTHER = {"str": "other", "int": 7, "tuple": ("other",), "TaskSpec": TaskSpec("hellaswag", "hellaswag"),
         "SampleSpec": SampleSpec(("a",))}  # fmt: skip


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EvalSetSpec)])
def test_every_declared_value_moves_the_digest_and_no_name_does(field):
    kind = next(f.type for f in dataclasses.fields(EvalSetSpec) if f.name == field)
    value = next(other for name, other in OTHER.items() if str(kind).startswith(name))
    changed = dataclasses.replace(SPEC, **{field: value})
    assert (changed.digest() == SPEC.digest()) == (field in NOT_COUNTED)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TaskSpec)])
def test_every_value_of_a_task_moves_the_digest_and_its_name_does_not(field):
    task = TaskSpec("arc_easy", "arc")
    value = {"bos": True, "random_baseline": 0.5, "shots": 3, "max_items": 9}.get(field, "other")
    before, after = (dataclasses.replace(SPEC, task=t) for t in (task, dataclasses.replace(task, **{field: value})))
    assert (before.digest() == after.digest()) == (field == "name")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SampleSpec)])
def test_every_setting_of_samples_moves_the_digest_and_the_time_limit_does_not(field):
    sample = SampleSpec(("a",))
    changed = dataclasses.replace(sample, **{field: ("b",) if field == "prompts" else 3})
    before, after = (dataclasses.replace(SPEC, sample=spec) for spec in (sample, changed))
    assert (before.digest() == after.digest()) == (field == "timeout_s")


def test_an_eval_set_without_a_task_keeps_the_digest_that_it_had_before_tasks():
    """The value was computed by the version of this repository before tasks."""
    spec = EvalSetSpec("val", ("/data/val.bin",), data_digest="sha256:ab", seq_len=64)
    assert spec.digest() == "sha256:e9abce2b4ffd8acb63e47dcf716b3e57d9f4361fddf46bc56ffb9400d5693710"
