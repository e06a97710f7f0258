"""One checkpoint file as a model ready to evaluate: identified, understood, then filled by reading.py."""

from __future__ import annotations

import os
from dataclasses import replace

from evalcore.archive.container.directory import Directory
from evalcore.archive.container.records import read_entry
from evalcore.archive.container.source import OpenFile, Source
from evalcore.archive.errors import ArchiveError
from evalcore.archive.meaning.folder_kinds import demand_finished, kind_at
from evalcore.archive.payload import Payload, identify
from evalcore.archive.reading import understand
from evalcore.archive.summary import probe, summarise, summary_of
from evalcore.loading.content import ContentDigest
from evalcore.loading.reading import Opened, OpenOptions, bytes_needed, counted, loadable_state, without_checksums
from evalcore.loading.weights import records_of
from evalcore.models.plan import CheckpointError


def open_file(source: Source, options: OpenOptions) -> Opened:
    """Understand one file. Raises CheckpointError, ArchiveError, OSError."""
    file, spec = OpenFile(source), options.spec
    try:
        _demand_version(file, options.expect_digest, options.expect_size_bytes)
        reading = understand(file, path=options.path, wanted=spec.state, settings=spec.config)
        _demand_digest(reading.payload.digest, options.expect_digest)
        if options.require_zip and reading.payload.unverified:
            raise without_checksums("the file", reading.payload.format)
        state = loadable_state(reading, spec)
        passed = counted(options.report, bytes_needed(state) if options.verify == "model" else file.size)
        content = _content_of(file, reading.payload, options.wants_content)
        records = records_of(file, reading.payload, passed, content)
        return Opened(reading, summary_of(file, reading), state, records, content, lambda: [file], file.is_rewritten)
    except (ArchiveError, CheckpointError) as error:
        stale = error.kind != "superseded" and file.is_rewritten()
        file.close()
        if stale:
            raise CheckpointError("superseded", "the file was rewritten while it was read") from error
        raise
    except BaseException:
        file.close()
        raise


def open_folder_of_one_file(path: str, options: OpenOptions) -> Opened:
    """The same for a folder with the model in one file. Raises CheckpointError, ArchiveError, OSError."""
    kind = kind_at(path)
    if kind is None or not kind.main:
        raise ArchiveError("unsupported", "the folder holds no file with a model")
    demand_finished(kind)
    main, digest = os.path.join(path, kind.main), None
    if options.expect_digest is not None:
        digest = probe(main).digest  # first: a file that takes its place after the next line is another one
        _demand_digest(summarise(path).digest, options.expect_digest)
    return open_file(main, replace(options, expect_digest=digest, expect_size_bytes=None, path=main))


def _demand_version(file: OpenFile, digest: str | None, size_bytes: int | None) -> None:
    """The size, and the digest where it is cheap, before the file is read."""
    if size_bytes is not None and file.size != size_bytes:
        raise CheckpointError(
            "superseded", f"the file has {file.size} bytes now, not {size_bytes} as when it was registered"
        )
    if digest is not None:
        try:
            structure = identify(file)
        except ArchiveError:
            return  # what is wrong with it now is said by the reading
        if isinstance(structure, Directory) and not structure.unverified:
            _demand_digest(structure.digest(file), digest)


def _demand_digest(digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise CheckpointError("superseded", "the file holds another version than when it was registered")


def _content_of(file: OpenFile, payload: Payload, wanted: bool) -> ContentDigest:
    """Begins with the pickle, which says what the records mean; a file without records is one record."""
    content = ContentDigest(wanted)
    if payload.directory is not None:
        content.add("data.pkl", read_entry(file, payload.directory, payload.directory.entries["data.pkl"]))
    else:
        content.add("file", payload.digest.encode())  # of all its bytes
    return content
