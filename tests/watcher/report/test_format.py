"""The one formatter: what people read in tables, on the page and in status; strict JSON for programs."""

from __future__ import annotations

import json
import math

import pytest

from watcher.domain.timestamps import iso
from watcher.report import format
from watcher.report.tables import as_csv

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (format.integer(29_000), "29,000"),
        (format.decimal(-0.00001), "0.0000"),
        (format.decimal(-0.00006), "-0.0001"),
        (format.signed(-0.00001), "+0.0000"),
        (format.integer(None), "-"),
        (format.short_integer(124_475_904), "124M"),
        (format.short_integer(999), "999"),
        (format.decimal(3.14159), "3.1416"),
        (format.decimal(2e9), "2.000e+09"),
        (format.signed(-0.01234), "-0.0123"),
        (format.p_value(7.5e-192), "<0.001"),
        (format.p_value(0.0421), "0.042"),
        (format.size(1_493_000_000), "1.4 GiB"),
        (format.size(12), "12 B"),
        (format.duration(0.004), "4 ms"),
        (format.duration(0.5), "0.5 s"),
        (format.duration(3.0), "3 s"),
        (format.duration(200), "3 min 20 s"),
        (format.duration(7500), "2 h 5 min"),
        (format.ago(iso(NOW_S - 250), NOW_S), "4 min ago"),
        (format.ago(iso(NOW_S + 30), NOW_S), "in 30 s"),
        (format.ago(iso(NOW_S), NOW_S), "just now"),
        (format.clock("2026-01-31T12:00:00.000000Z"), "2026-01-31 12:00:00"),
        (format.text("a\x1b[31m\u202eb"), "a\\x1b[31m\\u202eb"),
    ],
)
def test_numbers_times_and_names_are_written_for_people(written, expected):
    assert written == expected


def test_a_text_of_megabytes_is_cut_and_says_by_how_much():
    shown = format.text("w" * 3_000_000)
    assert len(shown) < 350 and shown.endswith("… (2,999,700 more characters)")


def test_json_is_strict_whatever_is_not_finite():
    value = {"loss": math.nan, "ppl": [math.inf, 1.5], "raw": b"\0", 5: "x" * 50}
    assert json.loads(format.json_text(value)) == {"loss": None, "ppl": [None, 1.5], "raw": None, "5": "x" * 50}
    assert json.loads(format.json_text("x" * 50, text_max=10)) == "xxxxxxxxxx… (40 more characters)"


def test_csv_of_the_command_line_holds_no_formula_no_escape_sequence_and_every_digit():
    row = {"run": "=cmd()", "checkpoint": "a\x1b[2J\n.pt", "loss": -0.1 - 0.2, "ppl": math.inf, "step": None}
    assert as_csv(tuple(row), [row]) == ("run,checkpoint,loss,ppl,step\n'=cmd(),a\\x1b[2J\\n.pt,-0.30000000000000004,,")
