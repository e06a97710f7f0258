"""Settings that cannot be meant are refused in a sentence: what, where, and the remedy. Never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from watcher.errors import ConfigError
from watcher.settings.load import load_settings
from watcher.settings.problems import problem_lines
from watcher.settings.schema import Settings

MINIMAL = '[[run]]\ndir = "ck"\n{run}\n[[eval]]\ndata = "v.txt"\n{eval}\n{more}\n'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch):
    """Load a file in an empty folder: the keys of [[run]] and [[eval]], and further sections."""
    monkeypatch.chdir(tmp_path)

    def load(run: str = "", eval: str = "", more: str = "") -> Settings:
        (tmp_path / "c.toml").write_text(MINIMAL.format(run=run, eval=eval, more=more), encoding="utf-8")
        return load_settings(tmp_path / "c.toml")

    return load


@pytest.fixture
def refusal(settings):
    def load(**sections: str) -> str:
        with pytest.raises(ConfigError) as caught:
            settings(**sections)
        assert caught.value.exit_code == 3
        return caught.value.cause

    return load


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"eval": "seq_len = true"}, "eval.0.seq_len: is true or false"),
        ({"eval": "max_tokens = true"}, "eval.0.max_tokens: is true or false"),
        ({"run": "settle_s = true"}, "run.0.settle_s: is true or false"),
        ({"run": "settle_s = nan"}, "run.0.settle_s: Input should be a finite number (given: 'nan')"),
        ({"run": "incomplete_timeout_s = inf"}, "run.0.incomplete_timeout_s: Input should be a finite number"),
        ({"run": "settle_s = -1"}, "run.0.settle_s: Input should be greater than 0"),
        ({"run": f"every = {10**30}"}, "run.0.every"),
        ({"run": f"every = {'9' * 5000}"}, "cannot be read as TOML"),
        ({"eval": "seq_len = 0"}, "eval.0.seq_len: must be at least 1, or `auto`"),
        ({"more": "[launch]\nbatch_size = 0"}, "launch.batch_size: must be at least 1, or `auto`"),
        ({"eval": "seq_len = 128\nstride = 129"}, "stride = 129 with seq_len = 128"),
        ({"eval": "stride = 1025"}, "stride = 1025 with seq_len = `auto`, which is at most 1024"),
        ({"run": 'name = "a\\nb"'}, "run.0.name: must be printable text"),
        ({"run": 'name = "a"\n[[run]]\nname = "a"\ndir = "b"'}, "two [[run]] sections are named 'a'"),
        ({"more": '[[sink]]\nkind = "csv"\n[[sink]]\nkind = "csv"'}, "two [[sink]] sections are named 'csv'"),
        ({"run": "include = []"}, "run.0.include: needs at least one glob"),
        ({"run": 'include = [""]'}, "run.0.include: is empty"),
        ({"run": 'include = "*.pt"'}, "run.0.include: must be a list"),
        ({"run": 'include = ["[z-a].pt"]'}, "'[z-a].pt' is no glob: bad character range"),
        ({"run": 'exclude = ["[z-a].pt"]'}, "run.0.exclude: '[z-a].pt' is no glob"),
        ({"run": 'include = ["/data/*.pt"]'}, "never matches: globs are relative to `dir`"),
        ({"run": 'include = ["./*.pt"]'}, "never matches"),
        ({"run": 'ready_marker = "{name"'}, "run.0.ready_marker: is no pattern"),
        ({"run": 'ready_marker = "{nam}.done"'}, "the fields are {name}, {stem} and {step}"),
        ({"run": 'ready_marker = "{}"'}, "the fields are {name}, {stem} and {step}"),
        ({"run": 'ready_marker = "{name.__class__}"'}, "the fields are {name}, {stem} and {step}"),
        ({"run": 'ready_marker = "{step:999999999d}"'}, "has the format '999999999d'"),
        ({"run": 'ready_marker = "{name:08d}"'}, "has the format '08d' for {name}"),
        ({"run": 'ready_marker = "/tmp/DONE"'}, "must name a file in or below the checkpoint's own folder"),
        ({"run": 'ready_marker = "../DONE"'}, "must name a file in or below the checkpoint's own folder"),
        ({"more": '[store]\nurl = "sqlite://"'}, "store.url: is a database in memory, which is lost at exit"),
        ({"more": '[store]\nurl = "sqlite:///:memory:"'}, "is a database in memory"),
        ({"more": '[store]\nurl = "sqlite:///file:x?mode=memory"'}, "is a database in memory"),
        ({"more": '[store]\nurl = "sqlite://x.db"'}, "SQLite has no host: write sqlite:///x.db"),
        ({"more": '[store]\nurl = "://"'}, "store.url: '://' is no database URL"),
        ({"more": '[store]\nurl = "postgresql://"'}, "names no server"),
        ({"more": '[store]\nurl = "postgresql+psycopg://h:abc/x"'}, "cannot be parsed: Port could not be cast"),
        ({"more": '[store]\nurl = "mysql://h/x"'}, "mysql is not supported"),
        ({"more": '[store]\nurl = "."'}, "is a folder: name a file in it"),
        ({"more": '[store]\nurl = "sqlite:///~/x.db"'}, "`~` is not expanded"),
        ({"more": '[store]\nurl = "a\\u0000b"'}, "store.url: has a NUL byte"),
        ({"more": '[store]\nstate_dir = "c.toml"'}, "c.toml is a file; name a folder"),
        ({"more": '[store]\nstate_dir = "c.toml/x"'}, "c.toml is a file; name a folder"),
        ({"more": '[store]\nstate_dir = "~nosuchuser/x"'}, "no home folder is known for ~nosuchuser"),
        ({"more": '[store]\nstate_dir = "ck/state"'}, "ck, which is watched"),
        ({"run": 'include = ["**/*.pt"]', "more": '[store]\nurl = "ck/x.db"'}, "set store.state_dir or store.url"),
        ({"more": "[model]\nconfig = { made = 2026-01-01 }"}, "model.config: made is a date; write it as text"),
        ({"more": "[model]\nconfig = { a = [{ b = nan }] }"}, "model.config: a[0].b is nan"),
        ({"more": f"[model]\nconfig = {{ a = {'[' * 40}{']' * 40} }}"}, "nested more than 32 deep"),
        ({"more": f"[model]\nconfig = {{ a = {'[' * 5000}{']' * 5000} }}"}, "c.toml is nested too deep"),
        ({"more": "[model]\nconfig = true"}, "model.config: is true or false"),
        ({"more": '[model]\nfactory = ""'}, "model.factory: is empty"),
        ({"more": "[launch]\ndevcie = 1"}, "launch.devcie: unknown key; did you mean `device`?"),
        ({"more": '[launch]\nnproc = 2\ndevice = "cuda"\ndevices = ["0"]'}, "nproc = 2 needs as many GPUs"),
        ({"more": '[[alert]]\non = ["best"]'}, "alert.0: it notifies nothing"),
        ({"more": '[[alert]]\non = []\nwebhook = "http://x"'}, "alert.0: `on` names no event"),
        ({"more": '[[alert]]\non = ["lag"]\nbest_link = "b.pt"'}, 'need "best" in `on`'),
        ({"more": "surprise = 1"}, "surprise: unknown key"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_meant_is_refused_with_its_place_and_reason(refusal, sections, words) -> None:
    assert words in refusal(**sections)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[run]\ndir = "ck"', "run: may stand several times: write [[run]]"),
        ("run = 5", "run: may stand several times: write [[run]]"),
        ("launch = 5", "launch: must be a table"),
        ("[[eval]]\ndata = 5", "eval.0.data: must be a list"),
        ('[[run]]\ndir = ""', "run.0.dir: is empty"),
        ("[[run]]\nname = 'x'", "run.0.dir: missing"),
        ('[[run]]\ndir = "a\\u0000b"', "run.0.dir: has a NUL byte"),
        ('[[run]]\ndir = "~nosuchuser/ck"', "run.0.dir: no home folder is known for ~nosuchuser; write the whole path"),
        ("[[run]]\ndir = 2020-01-01", "run.0.dir"),
        ("a" * 5_000_000, "is larger than 4 MiB"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_its_place_and_reason(tmp_path: Path, text, words) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "c.toml")
    assert words in caught.value.cause and len(caught.value.cause) < 2000


def test_every_problem_is_named_at_once_and_each_key_once(refusal) -> None:
    cause = refusal(run="every = 0", eval='seq_len = "x"', more="[launch]\nnproc = 0")
    assert cause.splitlines()[0].endswith("c.toml: 3 problems")
    places = [line.split(":")[0].strip() for line in cause.splitlines()[1:]]
    assert places == ["run.0.every", "eval.0.seq_len", "launch.nproc"]


def test_a_secret_is_not_printed_in_a_problem(refusal) -> None:
    assert "hunter2" not in refusal(more='[store]\nurl = "x y://me:hunter2@db/x"')
    assert "T0/SECRET" not in refusal(more='[[alert]]\non = ["best"]\nwebhook = ["https://x/T0/SECRET"]')


@pytest.mark.parametrize("url", ["ck/r.db", "sqlite:///r.db", "postgresql+psycopg://me@db.lan/r"])
def test_databases_that_can_be_meant_are_accepted(settings, url: str) -> None:
    assert settings(more=f'[store]\nurl = "{url}"').store.url.endswith(url.removeprefix("sqlite:///"))


def test_a_relative_sqlite_url_is_relative_to_the_file_like_every_path(settings, tmp_path: Path) -> None:
    assert settings(more='[store]\nurl = "sqlite:///r.db"').store.url == f"sqlite:///{tmp_path}/r.db"


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbf[[run]]\ndir = "ck"\n')
    assert load_settings(tmp_path / "c.toml").run[0].name == "ck"


def test_a_folder_whose_name_is_not_utf_8_gives_its_run_a_printable_name(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(str(tmp_path)) + b"/r\xff\n")
    assert load_settings(None, {"run": [{"dir": folder}]}).run[0].name == "r\\udcff\\n"


def test_flags_laid_over_the_file_are_checked_like_the_file(settings, tmp_path: Path) -> None:
    settings()
    file = tmp_path / "c.toml"
    changed = load_settings(file, {}, {"run": {"settle_s": 5.0}, "eval": {"seq_len": 64}})
    assert changed.run[0].settle_s == 5.0 and changed.eval[0].seq_len == 64
    for each, words in (
        ({"run": {"settle_s": -5.0}}, "run.0.settle_s"),
        ({"run": {"ready_marker": "{"}}, "run.0.ready_marker"),
        ({"eval": {"seq_len": 64, "stride": 65}}, "stride = 65 with seq_len = 64"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_settings(file, {}, each)


def test_a_model_configuration_file_is_checked_like_a_table(tmp_path: Path) -> None:
    from watcher.settings.eval_sets import resolve_model
    from watcher.settings.schema import ModelSettings

    for name, text, words in (
        ("d.toml", "made = 2026-01-01", "made is a date"),
        ("n.json", '{"a": NaN}', "a is nan"),
        ("deep.json", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=words):
            resolve_model(ModelSettings(config=tmp_path / name))


def test_a_home_is_expanded_in_variables_and_an_unknown_variable_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CKPTWATCH_DB", "~/x.db")
    monkeypatch.setenv("CKPTWATCH_LAUNCH_DEVICES", "0, 1")
    monkeypatch.setenv("CKPTWATCH_LAUNCH_SLURM_PARTITION", "gpu")
    settings = load_settings(None)
    assert settings.store.url == f"{tmp_path}/x.db" and settings.launch.devices == ("0", "1")
    assert settings.launch.slurm.partition == "gpu"
    for name, value, words in (
        ("CKPTWATCH_LAUNCH_DEVCIE", "cpu", "sets nothing; did you mean CKPTWATCH_LAUNCH_DEVICE?"),
        ("CKPTWATCH_RUN_DIR", "x", "CKPTWATCH_RUN_DIR sets nothing"),
        ("CKPTWATCH_DB", "", "CKPTWATCH_DB is empty"),
        ("CKPTWATCH_DB", "~nosuchuser/x", "no home folder is known for ~nosuchuser"),
        ("CKPTWATCH_LAUNCH_NPROC", "two", "launch.nproc"),
        ("CKPTWATCH_STORE", "x", "CKPTWATCH_STORE sets nothing"),
    ):
        with monkeypatch.context() as other, pytest.raises(ConfigError) as caught:
            other.setenv(name, value)
            load_settings(None)
        assert words in caught.value.cause


def every_key(section: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, annotation) of every key of every section."""
    for key, field in section.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is not None:
            yield from every_key(inner, (*path, key))
        else:
            yield (*path, key), field.annotation


@pytest.mark.parametrize("given", ["3", "true", 1, 0, True, 2.5], ids=repr)
def test_a_value_of_another_type_is_refused_by_every_key_that_it_does_not_fit(given: Any) -> None:
    """pydantic alone would take "3" for 3, "yes" and 1 for true, and true for 1."""
    taken = []
    for (section, *between, key), annotation in every_key():
        kinds = {annotation, *get_args(annotation)}
        many = get_origin(annotation) is tuple
        fits = not many and (type(given) in kinds or (isinstance(given, str) and Path in kinds))
        fits = fits or (type(given) is int and float in kinds) or (key == "data" and isinstance(given, str))
        table: dict[str, Any] = {key: given}
        for name in reversed(between):
            table = {name: table}
        several = get_origin(Settings.model_fields[section].annotation) is tuple
        try:
            Settings.model_validate({section: [table] if several else table})
            lines = []
        except ValidationError as error:
            lines = problem_lines(error)
        where = ".".join([section, *(["0"] if several else []), *between, key])
        if not fits and not any(line.startswith(f"{where}: ") for line in lines):
            taken.append(f"{where} = {given!r}")
    assert taken == []


def test_numbers_and_truth_values_in_quotes_are_refused_in_files_and_read_from_variables(
    tmp_path: Path, monkeypatch
) -> None:
    file = tmp_path / "ckptwatch.toml"
    for text, words in (
        ('[[average]]\nlast = "3"', "average.0.last: is text where a number belongs: write it without quotes"),
        ('[web]\nenabled = "yes"', "web.enabled: is text where true or false belongs (given: 'yes')"),
        ('[launch]\nbatch_size = "8"', "launch.batch_size: is text where a number belongs"),
        ("[web]\nenabled = 1", "web.enabled: is a number where true or false belongs"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_settings(file)
        assert words in caught.value.cause
    monkeypatch.setenv("CKPTWATCH_LAUNCH_NPROC", "2")
    monkeypatch.setenv("CKPTWATCH_LAUNCH_STALL_S", "1.5")
    monkeypatch.setenv("CKPTWATCH_LAUNCH_BATCH_SIZE", "auto")
    monkeypatch.setenv("CKPTWATCH_LAUNCH_SELFCHECK", "true")
    launch = load_settings(None).launch
    assert (launch.nproc, launch.stall_s, launch.batch_size, launch.selfcheck) == (2, 1.5, "auto", True)


def test_the_variables_of_a_kubernetes_service_named_ckptwatch_are_no_settings(monkeypatch) -> None:
    for name, value in (
        ("CKPTWATCH_SERVICE_HOST", "10.0.0.1"),
        ("CKPTWATCH_SERVICE_PORT_HTTP", "8745"),
        ("CKPTWATCH_PORT", "tcp://10.0.0.1:8745"),
        ("CKPTWATCH_PORT_8745_TCP_ADDR", "10.0.0.1"),
        ("CKPTWATCH_WEB_PORT", "tcp://10.0.0.1:8745"),
        ("CKPTWATCH_WEB_SERVICE_HOST", "10.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    assert load_settings(None).web.port == 8745


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "show"],
        ["results", "--db", "."],
        ["results", "--db", "://"],
        ["status", "--db", "sqlite://"],
        ["results", "--db", "foo://x"],
        ["run", "--dir", "", "--data", "v.txt"],
    ],
)
def test_without_a_home_for_an_unknown_user_there_is_a_sentence_and_no_traceback(tmp_path: Path, arguments) -> None:
    """As in a container that runs under an arbitrary number."""
    code = (
        "import os, sys; os.environ.pop('HOME', None); os.getuid = lambda: 54321\n"
        "from watcher.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    (tmp_path / "ckptwatch.toml").write_text('[[run]]\ndir = "~/ck"\n')
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    assert "error:" in done.stderr and "next:" in done.stderr


def test_the_default_database_of_a_user_without_a_home_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Watched from within: the database would move to the user's state folder."""
    code = (
        "import os, sys; os.environ.pop('HOME', None); os.getuid = lambda: 54321\n"
        "from watcher.cli import main; sys.exit(main(['run', '--dir', '.', '--data', 'v.txt', '--once']))"
    )
    (tmp_path / "v.txt").write_text("hello")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    environment.pop("XDG_STATE_HOME", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 7 and "no home folder is known for user 54321" in done.stderr, done.stderr
    assert "--db FILE" in done.stderr
