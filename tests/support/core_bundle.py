"""A bundle with the 22 tasks of CORE: their names, kinds, shots, delimiters and baselines, and made-up items.

The list is that of karpathy/nanochat at 92d63d4 (DCLM's CORE); each file has 12 items, as 10 shots need 11.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.tasks import rows_of, write_rows

ITEMS = 12
_MULTIPLE, _SCHEMA, _LANGUAGE = "multiple_choice", "schema", "language_modeling"
_ANSWER = "\\nAnswer: "
#: label: (folder and file below eval_data, kind, shots, delimiter where it is not a space, random baseline in per cent)
CORE_TASKS: dict[str, tuple[str, str, int, str | None, float]] = {
    "hellaswag_zeroshot": ("language_understanding/hellaswag.jsonl", _MULTIPLE, 0, None, 25),
    "jeopardy": ("world_knowledge/jeopardy_all.jsonl", _LANGUAGE, 10, _ANSWER, 0),
    "bigbench_qa_wikidata": ("world_knowledge/bigbench_qa_wikidata.jsonl", _LANGUAGE, 10, None, 0),
    "arc_easy": ("world_knowledge/arc_easy.jsonl", _MULTIPLE, 10, _ANSWER, 25),
    "arc_challenge": ("world_knowledge/arc_challenge.jsonl", _MULTIPLE, 10, _ANSWER, 25),
    "copa": ("commonsense_reasoning/copa.jsonl", _MULTIPLE, 0, None, 50),
    "commonsense_qa": ("commonsense_reasoning/commonsense_qa.jsonl", _MULTIPLE, 10, None, 20),
    "piqa": ("commonsense_reasoning/piqa.jsonl", _MULTIPLE, 10, _ANSWER, 50),
    "openbook_qa": ("commonsense_reasoning/openbook_qa.jsonl", _MULTIPLE, 0, None, 25),
    "lambada_openai": ("language_understanding/lambada_openai.jsonl", _LANGUAGE, 0, None, 0),
    "hellaswag": ("language_understanding/hellaswag.jsonl", _MULTIPLE, 10, None, 25),
    "winograd": ("language_understanding/winograd_wsc.jsonl", _SCHEMA, 0, None, 50),
    "winogrande": ("language_understanding/winogrande.jsonl", _SCHEMA, 0, None, 50),
    "bigbench_dyck_languages": ("symbolic_problem_solving/bigbench_dyck_languages.jsonl", _LANGUAGE, 10, None, 0),
    "agi_eval_lsat_ar": ("symbolic_problem_solving/agi_eval_lsat_ar.jsonl", _MULTIPLE, 3, None, 20),
    "bigbench_cs_algorithms": ("symbolic_problem_solving/bigbench_cs_algorithms.jsonl", _LANGUAGE, 10, None, 0),
    "bigbench_operators": ("symbolic_problem_solving/bigbench_operators.jsonl", _LANGUAGE, 10, None, 0),
    "bigbench_repeat_copy_logic": ("symbolic_problem_solving/bigbench_repeat_copy_logic.jsonl", _LANGUAGE, 10, None, 0),
    "squad": ("reading_comprehension/squad.jsonl", _LANGUAGE, 10, None, 0),
    "coqa": ("reading_comprehension/coqa.jsonl", _LANGUAGE, 0, None, 0),
    "boolq": ("reading_comprehension/boolq.jsonl", _MULTIPLE, 10, _ANSWER, 62),
    "bigbench_language_identification": (
        "language_understanding/bigbench_language_identification.jsonl", _MULTIPLE, 10, None, 9.1,
    ),
}  # fmt: skip


def write_core_bundle(folder: Path) -> Path:
    """The folder with core.yaml, eval_meta_data.csv and the items below eval_data."""
    listed, table = ["icl_tasks:"], ["Eval Task,Task Category,Task Type,#shots,#datapoints,Random baseline"]
    for label, (uri, kind, shots, delimiter, baseline) in CORE_TASKS.items():
        path = folder / "eval_data" / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, rows_of(kind, ITEMS, seed=sum(map(ord, uri))))
        listed += ["-", f"  label: {label}", f"  dataset_uri: {uri}", f"  num_fewshot: [{shots}]"]
        listed += [f"  icl_task_type: {kind}"]
        listed += [f'  continuation_delimiter: "{delimiter}"'] if delimiter else []
        listed += ["  has_categories: true"] if label == "jeopardy" else []
        table.append(f"{label},{uri.split('/')[0]},{kind},{shots},{ITEMS},{baseline}")
    (folder / "core.yaml").write_text("\n".join(listed) + "\n")
    (folder / "eval_meta_data.csv").write_text("\n".join(table) + "\n")
    return folder
