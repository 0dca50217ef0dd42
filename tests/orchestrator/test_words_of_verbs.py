"""What every verb promises about paths, help and faults."""

import errno
import os
import re
import shlex
from pathlib import Path

import pytest

from orchestrator.cluster.environment import carried
from orchestrator.cluster.jobs.submission import check_run_url
from orchestrator.errors import BadInput, SessionFaultError
from tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("no_page")


class TestHome:
    """A shell leaves `~` in --option=~/path and in quotes, and YAML always."""

    @pytest.fixture
    def home(self, toy_sweep: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HOME", str(toy_sweep.parent))
        (toy_sweep.parent / "elsewhere").mkdir()
        monkeypatch.chdir(toy_sweep.parent / "elsewhere")
        return toy_sweep.parent

    def test_is_expanded_by_every_verb(self, home, capsweep):
        for words in (
            ("check", "~/toy.yaml"),
            ("run", "~/toy.yaml", "--inline", "--run-dir=~/run"),
            ("resume", "~/run", "--inline"),
            ("extend", "~/run", "~/toy.yaml", "--inline"),
            ("status", "~/run"),
            ("runs", "~/"),
            ("report", "~/run", "--tables=~/tables"),
            ("report", "~/run", "~/run", "--to=~/page.html"),
            ("report", "~/run", "--at-steps=9"),
            ("verify", "~/run"),
            ("export", "~/run", "--to=~/memories"),
        ):
            ended = capsweep(*words)
            assert ended.returncode == 0, (words, ended.stderr)
        assert {"run", "tables", "page.html", "memories"} <= {path.name for path in home.iterdir()}
        assert not list(Path.cwd().iterdir())

    def test_is_expanded_in_a_sweep(self, home, capsweep):
        text = (home / "toy.yaml").read_text().replace("path: texts/", "path: ~/texts/")
        (home / "toy.yaml").write_text(f"{text}storage: ~/runs\n")
        assert capsweep("run", "~/toy.yaml", "--inline").returncode == 0
        assert len(list((home / "runs").iterdir())) == 1
        assert not list(Path.cwd().iterdir())

    @pytest.mark.parametrize("nobody", ["~nobody-of-this-name", "~"])
    def test_that_is_none_is_a_name(self, home, capsweep, monkeypatch, nobody):
        """As in shells; and editors call their copies so."""

        def unknown(uid: int) -> None:
            raise KeyError(uid)

        if nobody == "~":
            monkeypatch.delenv("HOME")
            monkeypatch.setattr("pwd.getpwuid", unknown)
        for words in (("status", f"{nobody}/run"), ("check", f"{nobody}/toy.yaml"), ("resume", f"{nobody}/run")):
            assert capsweep(*words).returncode == 2
        text = (home / "toy.yaml").read_text()
        (home / "odd.yaml").write_text(
            text.replace("texts/", f"{nobody}/texts").replace("toy/model", f"{nobody}/model")
        )
        ended = capsweep("check", home / "odd.yaml")
        assert ended.returncode == 2
        assert ended.stderr.count(f"found '{nobody}/texts', but there is no such file or folder; tried") == 1
        (home / nobody).mkdir()
        (home / nobody / "a.txt").write_text("a text")
        (home / "odd.yaml").write_text(text.replace("texts/", f"'{nobody}'"))
        assert capsweep("run", home / "odd.yaml", "--inline", f"--run-dir={nobody}/run").returncode == 0
        assert (Path(nobody) / "run" / "sweep.yaml").is_file()

    def test_of_the_head_outlives_a_job(self):
        check_run_url("~/runs/mine")
        with pytest.raises(BadInput):
            check_run_url("runs/~/mine")


@pytest.mark.parametrize("name", ["my run", "$(touch x)", "a'b", "a&b;c", "#1"])
def test_the_command_that_a_message_names_can_be_typed(finished, toy_sweep, capsweep, name):
    run = finished(toy_sweep, name)
    named = re.compile("`(capsweep .*?)`")
    (command,) = named.findall(capsweep("runs", run).stderr)
    program, *words = shlex.split(command, comments=True)
    assert (program, words) == ("capsweep", ["status", str(run)])
    (run / "searches.parquet").unlink()
    (command,) = named.findall(capsweep("status", run).stderr)
    resumed = capsweep(*shlex.split(command, comments=True)[1:], "--inline")
    assert resumed.returncode == 0, resumed.stderr


def test_a_run_of_others_is_read_and_not_computed_for_in_vain(finished, toy_sweep, tmp_path, capsweep, monkeypatch):
    run = finished(toy_sweep)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    monkeypatch.setattr(TASKS["toy"], "open_prover", lambda *_: pytest.fail("it computed"))
    for words in (("measure", run), ("verify", run, "--as", "batch=2")):
        ended = capsweep(*words)
        assert ended.returncode == 2
        assert ended.stderr == f"{run}: you may not write to this run. Copy its folder, and work on the copy.\n"
    ended = capsweep("report", run, "--to", tmp_path / "page.html")
    assert (ended.returncode, ended.stdout) == (0, f"{tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize("verb", ["check", "run", "resume", "extend", "tune", "submit", "report", "verify", "runs"])
def test_no_help_has_what_markdown_takes_for_a_tag(capsweep, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    printed = capsweep(verb, "--help").stdout
    assert "by default ." not in printed
    assert "`" not in printed
    if "--run-dir" in printed:
        assert "by default STORAGE/NAME-" in printed


class TestFaults:
    """A fault of the machine tells how to go on where there is something to go on from, and only there."""

    GO_ON = "What is on disk is kept"

    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("orchestrator.planning.planner.read_texts", fail)

    def test_before_a_run_begins_there_is_nothing(self, toy_sweep, tmp_path, capsweep, full):
        for words in (("check", toy_sweep), ("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run")):
            ended = capsweep(*words)
            assert (ended.returncode, ended.stdout) == (1, "")
            assert ended.stderr == "[Errno 28] No space left on device\n"

    def test_reading_verbs_have_nothing_to_go_on_with(self, toy_sweep, finished, capsweep, monkeypatch):
        run = finished(toy_sweep)

        def fail(*_: object, **__: object) -> None:
            raise SessionFaultError("the disk is gone")

        monkeypatch.setattr("orchestrator.analysis.memories.verify", fail)
        monkeypatch.setattr("orchestrator.cli.status.show_status", fail)
        for verb in ("verify", "status"):
            ended = capsweep(verb, run)
            assert (ended.returncode, ended.stderr) == (1, "the disk is gone\n")

    def test_a_session_has(self, toy_sweep, tmp_path, capsweep, monkeypatch):
        def fail(*_: object, **__: object) -> None:
            raise SessionFaultError("an engine broke down")

        monkeypatch.setattr("orchestrator.execution.inline.InlineExecutor.run", fail)
        for words in (("run", toy_sweep, "--run-dir", tmp_path / "run"), ("resume", tmp_path / "run")):
            ended = capsweep(*words, "--inline")
            assert ended.returncode == 1
            message = f"an engine broke down\n{self.GO_ON}; `capsweep resume` continues the run.\n"
            assert ended.stderr.endswith(message)

    def test_a_run_that_is_resumed_is_there_from_the_first_moment(self, toy_sweep, finished, capsweep, full):
        ended = capsweep("resume", finished(toy_sweep), "--inline")
        assert ended.returncode == 1
        assert self.GO_ON in ended.stderr


class TestCarried:
    """--env names variables; a value in its place is neither taken nor repeated."""

    def test_takes_values_from_here(self, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        assert carried(["HF_TOKEN", "HF_TOKEN"]) == {"HF_TOKEN": "hf_secret"}
        assert carried([]) == {}

    def test_reports_all_that_is_wrong_and_no_value(self, toy_sweep, tmp_path, capsweep, monkeypatch):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        words = ("--env", "HF_TOKEN", "--env", "HF_TOKEN=hf_secret")
        ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "run", *words)
        assert ended.returncode == 2
        assert "--env HF_TOKEN: this variable is not set here" in ended.stderr
        assert "wanted the name alone" in ended.stderr
        assert "hf_secret" not in ended.stderr
        assert not (tmp_path / "run").exists()
        submitted = capsweep("submit", toy_sweep, "--address", "http://127.0.0.1:1", "--env", "HF_TOKEN")
        assert "--env HF_TOKEN: this variable is not set here" in submitted.stderr
