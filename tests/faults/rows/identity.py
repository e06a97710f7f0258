"""Rows 161 to 180: identity. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    161: ("P4", "a damaged copy beside its good twin, either first", ()),
    162: ("P4", "a corrupt file is copied again with its old time", ()),
    163: ("P4", "a good file is overwritten by a damaged copy of itself", ()),
    164: ("P3", "two contents made to collide in CRC-32", ()),
    165: ("P3", "latest.pt and step_N.pt saved apart, both pinned", ()),
    166: ("P3", "content A, B, A on one path, of one step and of two", ()),
    167: ("P3", "an older file put back with cp -p", ()),
    168: ("P1", "prune --keep best:1 --apply after the best was overwritten", ()),
    169: ("P1", "names that differ in bytes outside UTF-8 only", ()),
    170: ("P3", "two folders with one run name; a folder that was moved", ()),
    171: ("P2", "measured once more on demand", ()),
    172: ("P9", "a deleted row of results whose windows stay", ()),
    173: ("P9", "VACUUM, table, dropped view, WAL, text in a number column, triggers", ()),
    174: (
        "P9",
        "a database of 0.1.0, with what its user added",
        (
            "test_a_database_of_0_1_0_keeps_its_rows_windows_and_ids",
            "test_what_a_user_added_to_the_database_outlives_the_migration",
            "test_the_id_of_a_deleted_result_is_never_used_again",
        ),
    ),
    175: (
        "P15",
        "the labels or the random baseline of a task change",
        (
            "test_labels_in_a_file_of_their_own_count_and_are_watched",
            "test_another_baseline_is_another_measurement",
        ),
    ),
}
