"""No line of the product can execute a checkpoint: what unpickles, maps or trusts is not called anywhere."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("evalcore/**/*.py"), *ROOT.glob("watcher/**/*.py")])
FORBIDDEN_CALLS = {
    "torch.load": "runs or maps what the file says; the archive package reads it as data",
    "pickle.load": "runs what the file says",
    "pickle.loads": "runs what the file says",
    "pickle.Unpickler": "runs what the file says",
    "torch.serialization.add_safe_globals": "opens the allow-list to names from outside",
    "torch.jit.load": "runs a program from the file",
    "eval": "runs text",
    "exec": "runs text",
    "os.system": "runs text in a shell",
}
FORBIDDEN_KEYWORDS = {
    "shell": True,
    "mmap": True,
    "allow_pickle": True,
    "trust_remote_code": True,
    "weights_only": False,
}


def faults_in(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in FORBIDDEN_CALLS:
                yield f"line {node.lineno}: {name} {FORBIDDEN_CALLS[name]}"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in FORBIDDEN_KEYWORDS and value is FORBIDDEN_KEYWORDS[keyword.arg]:
                    yield f"line {node.lineno}: {keyword.arg}={value}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_in_the_source_can_run_a_checkpoint(path):
    assert list(faults_in(path.read_text())) == []


def test_the_rule_itself_finds_what_it_forbids():
    source = "import torch\ntorch.load(p, mmap=True)\nsubprocess.run(c, shell=True)\nprint(1)\n"
    assert len(list(faults_in(source))) == 3 and len(SOURCES) > 20
