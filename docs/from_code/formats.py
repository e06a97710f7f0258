"""The formats of checkpoints: families, what is asked, what is refused, configurations beside a file, steps."""

from __future__ import annotations

from docs.from_code.markdown import code, generated, table
from evalcore.archive.meaning.family import AMBIGUOUS
from evalcore.archive.meaning.indirect_weights import IN_PARTS
from evalcore.archive.meaning.sidecars import OF_THE_MODEL
from evalcore.archive.meaning.trainer import REFUSALS
from evalcore.models import FAMILIES
from evalcore.models.facts import Facts

_ABOUT = """
Which checkpoints are evaluated without a factory, how each is recognised, and which original code the result was
compared with. A family is accepted when the names, the shapes and every known value of the configuration fit. What a
configuration says that its family does not have is refused by name; a field of unknown meaning beside training
settings or fields of a library is named in the result's `note`. Missing and additional tensors are refused by name.
Any other model needs `model.factory`, see [Evaluate your own model](../how-to/own-model.md).
"""
_CONTAINERS = """
A file may be torch's zip format (its records are checked by CRC), torch's format before 1.6, or safetensors (both
without checksums, which the result's `note` says). The state dict may stand under any of the usual keys or at the top
level, beside other entries, under an attribute's prefix such as Lightning's `model.`, and with the prefixes that
torch.compile, DDP, FSDP and activation checkpointing add.
"""
_PROOFS = """
For each row the original class wrote a small checkpoint with random weights, norms, biases and scalars, and computed
its own float32 loss on random tokens; the difference is that of the loss, relative.
"""
_CONFIGURATION = """
A configuration in the file has precedence. Otherwise it is looked for beside the file, in this order: `meta_N.json`
beside `model_N.pt`, `<stem>.json`, then the files below. For `lit_model.pth`, `model_config.yaml` is first. Two files
that differ in what tensors do not show (heads, activation, rotary base) are refused; other differences are noted.
"""


def page() -> str:
    """Families, proofs, questions, refusals, configurations."""
    by_facts: dict[Facts, list[str]] = {}
    for name, family in FAMILIES.items():
        by_facts.setdefault(family.facts, []).append(name)
    return "\n".join(
        [
            generated("Checkpoint formats", "evalcore/models and evalcore/archive/meaning", _ABOUT),
            _CONTAINERS.strip() + "\n",
            "## Families\n",
            *(_family(facts, families) for facts, families in by_facts.items()),
            "## Comparisons with the original code\n",
            _PROOFS.strip() + "\n",
            table(
                ["format", "original", "commit", "variants", "largest difference"],
                (
                    (facts.name, proof.repository, code(proof.commit), proof.variants, f"{proof.difference:.1e}")
                    for facts in by_facts
                    for proof in facts.proofs
                ),
            ),
            "## What the file leaves open\n",
            table(["names fit", "why it is asked", "say in `[model] config`"], _ambiguous()),
            "## Recognised and refused\n",
            table(["kind", "it is", "what to do"], ((code(k), what, hint) for k, (what, hint) in REFUSALS.items())),
            "Weights that the file holds in parts are refused too:\n",
            table(["kind", "the weight is stored", "what to do"], ((code(k), how, todo) for k, how, todo in IN_PARTS)),
            "## Configuration beside a file\n",
            _CONFIGURATION.strip() + "\n",
            "\n".join(f"- `{name}`" for name in OF_THE_MODEL) + "\n",
        ]
    )


def _family(facts: Facts, families: list[str]) -> str:
    rows = [
        ("family", ", ".join(code(family) for family in families)),
        ("recognised by", facts.recognised_by),
        ("configuration", facts.configuration),
        ("step", facts.step),
        ("exact", facts.exact),
    ]
    rows += [("asked for", facts.asked)] if facts.asked else []
    return f"### {facts.name}\n\n" + table(["", ""], rows)


def _ambiguous() -> list[tuple[str, str, str]]:
    return [(code(name), why, code(answer)) for name, (why, answer) in AMBIGUOUS.items()]
