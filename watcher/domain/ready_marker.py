"""The name of the file that marks a checkpoint as complete, made from the pattern `run.ready_marker`. Pure."""

from __future__ import annotations

import re
import string

_FIELDS = ("name", "stem", "step")
_STEP_FORMAT = re.compile(r"0?\d{0,2}d?")
NAME_MAX = 255  # bytes of one name on a file system


class ReadyMarker:
    """A pattern such as `{name}.done` or `DONE_{step:08d}`. Raises ValueError where it cannot name a file."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            parts = list(string.Formatter().parse(pattern))
        except ValueError as error:
            raise ValueError(f"is no pattern: {error}; write a brace itself as {{{{ or }}}}") from None
        self.needs_step = False
        for _, field, spec, conversion in parts:
            if field is None:
                continue
            if field not in _FIELDS or conversion:
                raise ValueError(f"has {{{field}}}; the fields are {{name}}, {{stem}} and {{step}}")
            if spec and not (field == "step" and _STEP_FORMAT.fullmatch(spec)):
                raise ValueError(f"has the format {spec!r} for {{{field}}}; only formats like {{step:08d}} are valid")
            self.needs_step = self.needs_step or field == "step"
        example = self.file_for("model_1.pt", 1)
        if not example or example.startswith("/") or ".." in example.split("/") or example.endswith("/"):
            raise ValueError("must name a file in or below the checkpoint's own folder")
        if any(len(part.encode("utf-8", "surrogateescape")) > NAME_MAX for part in example.split("/")):
            raise ValueError(f"makes a name of more than {NAME_MAX} bytes")

    def file_for(self, name: str, step: int | None) -> str | None:
        """The marker of the file `name`, relative to its folder; None where the step it needs is unknown."""
        if self.needs_step and step is None:
            return None
        return self.pattern.format(name=name, stem=name.rsplit(".", 1)[0], step=step)
