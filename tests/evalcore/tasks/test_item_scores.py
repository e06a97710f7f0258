"""Packed item scores: read back as written, to the bit; damage of any kind is an error and not other scores."""

import math
from array import array

import pytest

from evalcore.tasks.item_scores import ItemScores, ItemScoresError, pack, packed_of_text, to_text, unpack

SCORES = ItemScores(
    index=array("I", [0, 5]),
    gold=array("H", [1, 0]),
    chosen=array("H", [1, 1]),
    chosen_norm=array("H", [0, 0]),
    correct=array("B", [1, 0]),
    correct_norm=array("B", [0, 1]),
    n_choices=array("H", [2, 3]),
    gold_nats=array("d", [1.25, math.inf]),
    gold_tokens=array("I", [3, 4]),
    gold_bytes=array("I", [9, 0]),
    choice_nats=array("d", [2.5, 1.25, 1e-300, math.inf, 4.0]),
)


def test_item_scores_are_read_back_to_the_bit():
    assert unpack(pack(SCORES)) == SCORES == unpack(packed_of_text(to_text(SCORES)))
    assert SCORES.choices_of(1) == [1e-300, math.inf, 4.0] and len(SCORES) == 2


def test_ten_thousand_items_of_four_choices_stay_below_a_megabyte():
    import random

    draw, n = random.Random(1), 10_000
    nats = array("d", (draw.uniform(1, 99) for _ in range(4 * n)))
    ones = array("H", [1]) * n
    many = ItemScores(
        array("I", range(n)), ones, ones, ones, array("B", ones), array("B", ones), array("H", [4]) * n,
        nats[:n], array("I", ones), array("I", ones), nats,
    )  # fmt: skip
    assert len(to_text(many)) < 1_000_000


@pytest.mark.parametrize("at", range(0, len(pack(SCORES)), 3))
def test_no_changed_byte_becomes_other_scores(at):
    packed = bytearray(pack(SCORES))
    packed[at] ^= 0x41
    with pytest.raises(ItemScoresError):
        unpack(bytes(packed))


@pytest.mark.parametrize("bad", [b"", b"CWI1", pack(SCORES)[:-3], pack(SCORES)[:16]])
def test_bytes_that_are_cut_off_are_refused(bad):
    with pytest.raises(ItemScoresError):
        unpack(bad)
    with pytest.raises(ItemScoresError):
        packed_of_text("not base64!")
