"""No secret of the environment or of the command line is in what a run writes or prints."""

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.cli import app as cli
from orchestrator.redact import redact, redact_command
from tasks.registry import TASKS
from tasks.toy import ToyEngine
from tasks.values import Failed, Outcome, Probe

PLANTED = "hf_PLANTEDplantedPLANTED"


class TestText:
    @pytest.mark.parametrize(
        "name",
        [
            *("HF_TOKEN", "GITHUB_TOKEN", "MY_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID_KEY"),
            *("DB_PASSWORD_OLD", "AZURE_STORAGE_CONNECTION_STRING", "GITHUB_PAT"),
        ],
    )
    def test_values_of_variables_whose_names_mark_a_secret(self, name):
        assert redact(f"401 for {PLANTED}!", {name: PLANTED}) == "401 for [redacted]!"

    @pytest.mark.parametrize("variable", [{"HOME": PLANTED}, {"HF_TOKEN": ""}, {"SORT_KEY": "for"}])
    def test_no_others_and_none_too_short_to_be_one(self, variable):
        assert redact(f"401 for {PLANTED}!", variable) == f"401 for {PLANTED}!"

    def test_the_longer_of_two_that_begin_alike(self):
        assert redact(PLANTED, {"A_TOKEN": PLANTED[:12], "B_TOKEN": PLANTED}) == "[redacted]"

    @pytest.mark.parametrize(
        ("text", "safe"),
        [
            ("s3://key:sec/ret@host/bucket", "s3://[redacted]@host/bucket"),
            ("https://host:8080/a@b", "https://host:8080/a@b"),
            ("at s3://key:secret@host/bucket: no", "at s3://[redacted]@host/bucket: no"),
            ("https://user:p@ss@host/a", "https://[redacted]@host/a"),
            ("https://token@host and ftp://a:b@c", "https://[redacted]@host and ftp://[redacted]@c"),
            ("s3://bucket/a@b", "s3://bucket/a@b"),
            ("mail me@host", "mail me@host"),
            ("https://host/simple?token=hf_abc&a=b", "https://host/simple?token=[redacted]&a=b"),
            ("at https://a.b/c?X-Amz-Signature=0a1b X-Amz", "at https://a.b/c?X-Amz-Signature=[redacted] X-Amz"),
            ("'https://x.blob/y?sv=1&sig=a%2Fb'", "'https://x.blob/y?sv=1&sig=[redacted]'"),
            ("https://host/a?page=2&keys=5", "https://host/a?page=2&keys=5"),
            ("run --hf-token=abc --name=x", "run --hf-token=[redacted] --name=x"),
            ("run --password abc --inline", "run --password [redacted] --inline"),
            ("`ray get-auth-token --generate` makes it", "`ray get-auth-token --generate` makes it"),
        ],
    )
    def test_urls_and_flags(self, text, safe):
        assert redact(text, {}) == safe

    def test_commands(self):
        command = ["capsweep", "run", "a.yaml", "--api-key", "abc", "--token=abc", "--inline", "ftp://a:b@c/d", PLANTED]
        assert redact_command(command, {"HF_TOKEN": PLANTED}) == [
            *["capsweep", "run", "a.yaml", "--api-key", "[redacted]", "--token=[redacted]", "--inline"],
            *["ftp://[redacted]@c/d", "[redacted]"],
        ]


def everything_in(folder: Path) -> dict[Path, str]:
    """What every file holds; tables as text too, for their bytes are compressed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = {path: str(pq.read_table(path).to_pylist()) for path in files if path.suffix == ".parquet"}
    return {path: path.read_bytes().decode("latin-1") + tables.get(path, "") for path in files}


def test_nothing_planted_is_found_after_a_run(toy_sweep: Path, tmp_path: Path, capsweep, monkeypatch):
    """Every probe fails once, with a reason that quotes the secret; the command line holds it, too."""
    answer = ToyEngine._outcome

    def leak(engine: ToyEngine, probe: Probe) -> Outcome:
        return answer(engine, probe) if probe.attempt else Failed(reason=f"refused: {os.environ['HF_TOKEN']}")

    run = tmp_path / "run"
    monkeypatch.setattr(ToyEngine, "_outcome", leak)
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    monkeypatch.setattr(sys, "argv", ["capsweep", "run", str(toy_sweep), f"--token={PLANTED}x", PLANTED])
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", run)
    assert ended.returncode == 0, ended.stderr
    found = everything_in(run)
    assert any("'lossless'" in content and "refused: [redacted]" in content for content in found.values())
    assert "--token=[redacted]" in found[run / "provenance.json"]
    assert [path for path, content in found.items() if "PLANTED" in content] == []
    assert "PLANTED" not in ended.stdout + ended.stderr


def test_the_message_of_bad_input(toy_sweep, capsweep, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    toy_sweep.write_text(toy_sweep.read_text() + f"budget: {PLANTED}\n")
    ended = capsweep("check", toy_sweep)
    assert ended.returncode == 2
    assert "budget: found '[redacted]'" in ended.stderr


def test_what_nobody_foresaw(toy_sweep, monkeypatch):
    def facts(model):
        raise ZeroDivisionError(f"Bearer {PLANTED}")

    monkeypatch.setenv("HF_TOKEN", PLANTED)
    monkeypatch.setattr(TASKS["toy"], "facts", facts)
    monkeypatch.setattr(sys, "argv", ["capsweep", "check", str(toy_sweep)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "ZeroDivisionError: Bearer [redacted]" in str(ended.value)
    assert PLANTED not in str(ended.value)


class TestUrls:
    URL = "ftp://user:password@host/runs"

    def test_a_sweep_is_refused(self, toy_sweep, capsweep):
        toy_sweep.write_text(toy_sweep.read_text() + f"storage: {self.URL}\n")
        ended = capsweep("check", toy_sweep)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"{toy_sweep}: storage: ftp://[redacted]@host/runs holds credentials. Remove")

    @pytest.mark.parametrize("verb", [["run", "SPEC", "--inline", "--run-dir"], ["resume"], ["status"], ["report"]])
    def test_so_is_the_url_of_a_run(self, toy_sweep, capsweep, verb):
        arguments = [toy_sweep if part == "SPEC" else part for part in verb]
        ended = capsweep(*arguments, self.URL)
        assert ended.returncode == 2
        assert ended.stderr.startswith("ftp://[redacted]@host/runs holds credentials. Remove them")
        assert ended.stdout == ""
