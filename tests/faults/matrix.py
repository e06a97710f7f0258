"""`python -m tests.faults.matrix [--check]`: writes docs/reliability.md, the fault matrix, from the tests themselves.

Owns the list of rows: what is done to us and which promise it tries. Which test proves a row is read from the tests' own
names (`test_row_NN...`), or named here where it stands with the room that it belongs to.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.faults.promises import PROMISES
from tests.faults.rows import FOUND_BY_OUTSIDERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
#: row -> (promise, what is done, names of further tests; or `file:` and a whole file of tests; or why it cannot be done)
Row = tuple[str, str, tuple[str, ...] | str]
ROWS: dict[int, Row] = {
    1: ("P3", "writer still appending", ()),
    2: ("P1", "writer stalls longer than the settle time", ()),
    3: ("P1", "writer killed for good; 200 cut points", ("test_a_truncation_is_never_accepted_and_always_called_incomplete",)),
    4: ("P3", "cut off by 1, 22, 23 bytes", ()),
    5: ("P1", "empty file", ()),
    6: ("P4", "one bit flipped in a record", ("test_every_bit_flip_in_the_file_is_refused_or_changes_nothing", "test_every_flip_in_a_model_record_is_corrupt")),
    7: ("P4", "a hole of zeros", ("test_a_hole_of_zeros_is_corrupt",)),
    8: ("P16", "flips in pickle and directory", ("test_fuzzed_pickle_and_directory_never_crash_the_reader", "test_random_pickles_never_crash_the_reader")),
    9: ("P4", "legacy format, good", ("test_legacy_format_gives_the_same_model_marked_unverified",)),
    10: ("P3", "legacy format, cut off", ("test_a_truncated_legacy_file_is_corrupt",)),
    11: ("P1", "random bytes", ("test_random_bytes_are_no_checkpoint",)),
    12: ("P17", "zips of another structure", ("test_zips_of_another_structure_are_corrupt", "test_duplicate_names_prepended_and_appended_bytes_and_encryption_are_refused", "test_overlapping_entries_are_refused")),
    13: ("P17", "deflated bomb", ("test_deflated_records_are_unsafe_before_anything_is_unpacked",)),
    14: ("P17", "a tensor of 10^12 numbers by stride 0", ("test_a_tensor_expanded_from_one_number_is_never_allocated",)),
    15: ("P17", "sparse file of 50 GiB", ("test_a_sparse_file_of_50_gib_is_refused_without_reading_it",)),
    16: ("P17", "100,000 records, huge pickles, deep nesting", ("test_a_hundred_thousand_tiny_records_are_read_or_refused_in_bounded_time", "test_pickles_that_eat_time_or_memory_end_early", "test_a_pickle_over_the_limit_is_unsupported")),
    17: ("P4", "CRCs switched off by the trainer", ("test_file_without_crcs_is_unverified_and_digested_whole",)),
    18: ("P16", "os.system in zip, legacy, raw, config, extra", ("test_a_command_in_a_pickle_is_never_run",)),
    19: ("P16", "calls of allowed and other globals", ("test_calls_of_anything_are_inert",)),
    20: ("P16", "foreign classes in good checkpoints", ("test_pickled_config_class_of_main_is_read_as_its_fields", "test_numpy_scalars_count_as_numbers", "test_an_object_within_the_state_dict_is_unsafe_for_a_factory_too")),
    21: ("P16", "SETITEM on a tensor; storage of another size", ("test_setting_an_item_on_a_tensor_is_unsafe", "test_a_storage_of_another_size_than_its_record_is_refused")),
    22: ("P16", "TorchScript and exported programs", ("test_an_exported_program_is_known", "test_files_of_other_trainers_are_answered")),
    23: ("P16", "source lint: no line can run a checkpoint", ("test_nothing_in_the_source_can_run_a_checkpoint",)),
    24: ("P17", "hostile config values", ("test_hostile_config_values_are_refused_before_anything_is_allocated",)),
    25: ("P13", "NaN weights", ("test_nan_weights_load_for_a_diverged_run_is_a_result", "test_must_show_a_folder_of_traps_ends_in_seconds_with_one_verdict_each")),
    26: ("P13", "a loss beyond exp", ()),
    27: ("P1", "missing, extra, misshapen tensors; prefixes", ("test_missing_extra_and_misshapen_tensors_are_named_up_to_five", "test_wrapper_prefixes_do_not_matter")),
    28: ("P15", "no config in the file", ("test_missing_config_is_refused_unless_the_settings_give_it",)),
    29: ("P15", "step missing, other than the name's, twice", ()),
    30: ("P5", "validation data missing", ()),
    31: ("P15", "two ranks, windows not divisible", ()),
    32: ("P1", "deleted before its claim", ()),
    33: ("P1", "deleted while it is evaluated", ()),
    34: ("P1", "a rotation faster than the evaluation", ()),
    35: ("P3", "overwritten in place while it is evaluated", ("test_a_file_rewritten_while_it_is_read_is_superseded_not_corrupt",)),
    36: ("P3", "replaced by rename while it is evaluated", ()),
    37: ("P3", "same path, size and mtime, other content", ("test_one_byte_written_in_place_is_noticed_though_size_and_directory_are_the_same",)),
    38: ("P3", "inode number used again", ()),
    39: ("P2", "same content under another name", ()),
    40: ("P2", "a touch", ()),
    41: ("P2", "a link that follows the newest", ()),
    42: ("P1", "links, loops, FIFO, socket, folder, device", ("test_folders_pipes_sockets_devices_and_links_to_them_are_named_at_once",)),
    43: ("P3", "cut off while it is evaluated", ()),
    44: ("P1", "a file that may not be read", ()),
    45: ("P3", "temporary names, then a rename", ()),
    46: ("P3", "ready markers", ()),
    47: ("P18", "names of any bytes", ()),
    48: ("P10", "100,000 files at the start", ()),
    49: ("P1", "a burst that overflows the kernel's queue", ()),
    50: ("P1", "a full queue", ()),
    51: ("P1", "inotify watch limit", ()),
    52: ("P1", "inotify instance limit", ()),
    53: ("P21", "folder missing, deleted, renamed", ()),
    54: ("P1", "folder unmounted", ()),
    55: ("P1", "a file system without events", ()),
    56: ("P21", "a file system that hangs", ()),
    57: ("P9", "read-only mount", ()),
    58: ("P5", "clock jumps", ()),
    59: ("P1", "file times of 1970, in the future", ()),
    60: ("P6", "daemon stopped and continued", ()),
    61: ("P2 P6", "daemon killed anywhere", ()),
    62: ("P12", "killed during migration", ()),
    63: ("P11", "power cut", "needs a block device that drops writes (dm-log-writes), which no kernel here has; SQLite's FULL sync and our fsync, rename, fsync are what we rely on"),
    64: ("P14", "two daemons", ()),
    65: ("P11", "database locked", ()),
    66: ("P11", "disk of the database full", ()),
    67: ("P11", "disk or inodes of the state folder exhausted", ()),
    68: ("P11", "database cannot be written", ()),
    69: ("P12", "database damaged, deleted, replaced", ()),
    70: ("P12", "old schema", ()),
    71: ("P12", "newer schema, another program's database", ()),
    72: ("P12", "migration without room", ()),
    73: ("P11", "a reader that never ends", ()),
    74: ("P11", "few descriptors", ()),
    75: ("P7", "signals, closed streams", ()),
    76: ("P10", "soak", ()),
    77: ("P5", "torchrun missing or broken", ()),
    78: ("P5", "worker dies in every way", ()),
    79: ("P8", "worker hangs in every way (D state aside: no test can make one)", ()),
    80: ("P6", "torchrun killed alone", ()),
    81: ("P6", "daemon killed alone", ()),
    82: ("P8", "worker escapes into another session", ()),
    83: ("P8", "one rank dies", ()),
    84: ("P18", "outcome that makes no sense", ()),
    85: ("P18", "flood on stderr", ()),
    86: ("P18", "binary and escapes on stderr", ()),
    87: ("P18", "environment", ()),
    88: ("P18", "descriptors", ()),
    89: ("P8", "two launches at once", ()),
    90: ("P2", "late answer of a fenced attempt", ()),
    91: ("P10", "GPU tools missing, hanging, talking nonsense; memory below the reserve", ()),
    92: ("P10", "out of memory", ()),
    93: ("P5", "tokenizer needs a network", ()),
    94: ("P6", "zombies", ()),
    95: ("P19", "hostile HTTP", "file:tests/watcher/web/test_guard.py"),
    96: ("P19", "markup in names", "file:tests/watcher/web/test_pages.py"),
    97: ("P19", "binding beyond loopback", "file:tests/watcher/web/test_guard.py"),
    98: ("P20", "systemd's notifications", ()),
    99: ("P20", "unit hardening", ("test_the_exposure_of_a_shipped_unit_is_at_most_one_and_a_half",)),
    100: ("P18", "log injection", ()),
    **FOUND_BY_OUTSIDERS,
}  # fmt: skip


def rows_proven(folder: Path = ROOT / "tests" / "faults") -> dict[int, list[tuple[str, str]]]:
    """row -> (file, test) of every test here that names it."""
    found: dict[int, list[tuple[str, str]]] = {}
    for file in sorted(folder.glob("test_*.py")):
        for name in re.findall(r"^def (test_row_\w+)", file.read_text(), re.MULTILINE):
            numbers = re.match(r"test_row_((?:\d+_)+)", name)
            assert numbers is not None, name
            for number in numbers.group(1).strip("_").split("_"):
                found.setdefault(int(number), []).append((file.relative_to(ROOT).as_posix(), name))
    return found


def file_of(name: str) -> str:
    """The file below tests/ that defines a test."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        if f"def {name}(" in file.read_text():
            return file.relative_to(ROOT).as_posix()
    raise LookupError(f"there is no test {name}")


def proofs(number: int) -> list[str]:
    """What proves a row, as Markdown. Raises LookupError where a test is named that is not there."""
    more = ROWS[number][2]
    said = [f"`{file}::{name}`" for file, name in rows_proven().get(number, [])]
    if not isinstance(more, str):
        return said + [f"`{file_of(name)}::{name}`" for name in more]
    if more.startswith("file:"):
        return [*said, f"`{more.removeprefix('file:')}`"]
    return [*said, f"**not tested here**: {more}"]


def page() -> str:
    """The whole of docs/reliability.md. Raises LookupError for a row without a test and without a reason."""
    lines = [
        "# Fault-injection matrix",
        "",
        "<!-- Generated from tests/faults by `python -m tests.faults.matrix`. Change the tests, not this page. -->",
        "",
        "Each row is a fault that a test injects, the promise that it checks, and the test.",
        "`make faults` runs the rows of `tests/faults`; `make chaos N=1000` and `make soak` run longer.",
        "A row without a test states the reason.",
        "",
        "## Promises",
        "",
        "| promise | group | statement and limits |",
        "|---|---|---|",
        *(f"| P{number} | {group} | **{title}.** {words} |" for number, (group, title, words) in PROMISES.items()),
        "",
        "## Faults",
        "",
        "| row | promise | fault | test |",
        "|---|---|---|---|",
    ]
    tested = 0
    for number, (promise, fault, _) in sorted(ROWS.items()):
        tests = proofs(number)
        if not tests:
            raise LookupError(f"row {number} has neither a test nor a reason")
        if unknown := [name for name in promise.split() if int(name.removeprefix("P")) not in PROMISES]:
            raise LookupError(f"row {number} names a promise that does not exist: {unknown}")
        tested += not tests[0].startswith("**")
        lines.append(f"| {number} | {promise} | {fault} | {'<br>'.join(tests)} |")
    lines += [
        "",
        f"{tested} of {len(ROWS)} rows have a test. Not reproducible on one machine without a GPU: a power cut, a real NFS",
        "server, a process in uninterruptible sleep, out-of-memory on a GPU.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == page() else f"{PAGE} is stale: python -m tests.faults.matrix")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
