"""`ckptwatch prune`: delete checkpoints not covered by --keep. Shows, unless --apply is given."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from typing import Any

import click

from watcher.cli.options import Globals, db_option, examples, json_option, print_json, reading, say
from watcher.detect.companions import companions_of
from watcher.detect.folder import size_of_tree
from watcher.detect.observation import fingerprint, fingerprint_at
from watcher.domain.checkpoint import Fingerprint
from watcher.errors import SomeFailed

CHANGED = "the file is not the one that was evaluated"


@click.command(
    "prune",
    epilog=examples(
        "ckptwatch prune --keep best:3,last:5,every:1000", "ckptwatch prune --keep best:3,last:5,every:1000 --apply"
    ),
)
@click.option(
    "--keep",
    "rules",
    required=True,
    metavar="RULES",
    help="What to keep: best:N, last:N, every:STEPS, separated by commas.",
)
@click.option("--run", metavar="NAME", help="Only this run.")
@click.option("--apply", is_flag=True, help="Delete; by default, only show.")
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, rules: str, run: str | None, apply: bool, as_json: bool, db: str | None) -> None:
    """Delete checkpoints not covered by --keep.

    Deletes with --apply only. Only files that are on disk as they were evaluated count.

    `best` keeps all members of a best mean. With a model of nanochat go its meta_N.json and optim_N_rank*.pt.

    Never deleted: the newest of a run; a checkpoint that waits, runs, is pinned, has no result or no step; a file that
    is not the evaluated one, or not a regular file. Results stay in the database.
    """
    from watcher.report.lookup import expect
    from watcher.report.pruning import decide, parse_keep
    from watcher.store.read import averages
    from watcher.store.read import results as questions

    keep = parse_keep(rules)
    store = reading(flags, db)
    if run is not None:
        expect("run", run, questions.known_names(store)[0])
    facts = [row for row in questions.prunable_facts(store) if run is None or row["run"] == run]
    results = questions.result_rows(store, questions.ResultFilter(run, standing=True))
    facts = [{**row, **_look_at(row)} for row in facts]
    plan = [_line(row, why) for row, why in decide(facts, results, keep, averages.members_of_means(store))]
    if apply:
        plan = [_delete(line) if line["keep"] is None else line for line in plan]
    if as_json:
        print_json([_plain(line) for line in plan])
    else:
        _show(plan, apply)
    if failed := [line for line in plan if line["error"]]:
        raise SomeFailed(f"{len(failed)} file(s) could not be deleted: {failed[0]['file']}: {failed[0]['error']}")


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in line.items() if key not in ("stat", "version")}
    return kept | {"companions": [os.fsencode(name).decode(errors="replace") for name, _ in line["companions"]]}


def _look_at(row: dict[str, Any]) -> dict[str, Any]:
    """The file as it is now. on_disk: it is the one that was evaluated; absent: why it is not."""
    relative = os.fsdecode(row["raw_path"]) if row["raw_path"] is not None else row["path"]
    file = os.path.join(row["dir"], relative)
    facts: dict[str, Any] = {
        "file": file,
        "bytes": None,
        "stat": None,
        "on_disk": False,
        "absent": None,
        "version": None,
        "companions": [],
    }
    try:
        status = os.lstat(file)
    except OSError as error:
        return facts | {"absent": "it is gone already" if isinstance(error, FileNotFoundError) else str(error.strerror)}
    with_it = companions_of(file)
    size_bytes = status.st_size + sum(companion.st_size for _, companion in with_it)
    facts |= {"bytes": size_bytes, "stat": status, "companions": with_it}
    now: Fingerprint | None = fingerprint(status) if stat.S_ISREG(status.st_mode) else None
    if stat.S_ISDIR(status.st_mode):
        try:
            now = fingerprint_at(file)
            facts["bytes"] = size_of_tree(file)
        except OSError as error:
            return facts | {"absent": str(error.strerror)}
    if now is None:
        return facts | {"absent": "it is no plain file"}
    evaluated = tuple(row[name] for name in Fingerprint._fields)
    return facts | ({"on_disk": True, "version": now} if now == evaluated else {"absent": CHANGED})


def _line(row: dict[str, Any], why: str | None) -> dict[str, Any]:
    keep = row["absent"] if row["absent"] and (row["absent"] != CHANGED or why is None) else why
    line: dict[str, Any] = {"run": row["run"], "checkpoint": row["path"], "step": row["step"], "file": row["file"]}
    return line | {
        "keep": keep,
        "bytes": row["bytes"],
        "deleted": False,
        "error": None,
        "stat": row["stat"],
        "version": row["version"],
        "companions": row["companions"],
    }


def _delete(line: dict[str, Any]) -> dict[str, Any]:
    """Delete one file or folder, after one more look: the trainer may have written a new one meanwhile."""
    before = line["stat"]
    if stat.S_ISDIR(before.st_mode):
        return _delete_folder(line)
    folder, name = os.path.split(line["file"])
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            now = os.stat(name, dir_fd=at, follow_symlinks=False)
            if (now.st_dev, now.st_ino, now.st_mtime_ns) != (before.st_dev, before.st_ino, before.st_mtime_ns):
                return line | {"keep": "the file changed meanwhile"}
            os.unlink(name, dir_fd=at)
            for companion, seen in line["companions"]:
                with suppress(FileNotFoundError):
                    now = os.stat(companion, dir_fd=at, follow_symlinks=False)
                    if (now.st_dev, now.st_ino, now.st_mtime_ns) == (seen.st_dev, seen.st_ino, seen.st_mtime_ns):
                        os.unlink(companion, dir_fd=at)
        finally:
            os.close(at)
    except OSError as error:
        return line | {"error": error.strerror}
    return line | {"deleted": True}


def _delete_folder(line: dict[str, Any]) -> dict[str, Any]:
    """The whole folder or nothing: a rename takes it away at once, or fails and leaves it as it was."""
    folder, name = os.path.split(line["file"])
    aside = os.path.join(folder, f".{name}.ckptwatch-deleting")
    try:
        if fingerprint_at(line["file"]) != line["version"]:
            return line | {"keep": "the folder changed meanwhile"}
        if not os.access(line["file"], os.W_OK | os.X_OK):
            return line | {"error": "Permission denied"}
        os.rename(line["file"], aside)
        shutil.rmtree(aside)
    except OSError as error:
        left = f" (what is left is in {aside})" if os.path.isdir(aside) else ""
        return line | {"error": f"{error.strerror}{left}"}
    return line | {"deleted": True}


def _show(plan: list[dict[str, Any]], applied: bool) -> None:
    from watcher.cli.showing import print_table
    from watcher.domain.checkpoint import printable
    from watcher.report.columns import Column, text_column
    from watcher.report.format import integer, size

    def verdict(line: dict[str, Any]) -> str:
        if line["keep"] is not None:
            return f"keep: {printable(line['keep'])}"
        if line["error"]:
            return f"failed: {line['error']}"
        done = "deleted" if line["deleted"] else "delete"
        return f"{done}, with {', '.join(name for name, _ in line['companions'])}" if line["companions"] else done

    columns = [
        *(text_column("run"), Column("step", lambda line: integer(line["step"]), True)),
        Column("size", lambda line: size(line["bytes"]), True),
        *(text_column("checkpoint"), Column("verdict", verdict, sentence=True)),
    ]
    print_table(columns, plan)
    going = [line for line in plan if line["keep"] is None and not line["error"]]
    freed = size(sum(line["bytes"] or 0 for line in going))
    if applied:
        say(f"{len(going)} file(s) deleted, {freed} freed")
    else:
        say(f"{len(going)} of {len(plan)} file(s), {freed}, would be deleted; --apply deletes them")
