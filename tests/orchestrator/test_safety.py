"""What a sweep, a text or its name may hold without harm: no file beside the run, no code, no time without end."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from orchestrator.analysis.memories import decode, export
from orchestrator.errors import BadInput
from orchestrator.launch import Exit, launch
from orchestrator.planning.models import PICKLE_NOTE, REMOTE_CODE_NOTE
from orchestrator.planning.plan import Plan
from orchestrator.planning.planner import make_plan
from orchestrator.report.writing import write_report
from orchestrator.runs.directory import REPORT_FILE, open_run
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import load_sweep
from tasks.tokenizer import HubCodec
from tasks.values import Encoding, Model, TaskError

ODD_TEXTS = {
    "one token": "a",
    "white space in a text": "a \t\n\r\u2003 b",
    "NUL": "a\x00b\x00",
    "right to left": "שלום עולם \u202eabc",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301",
    "special tokens": "<s> </s> <|endoftext|> <unk> [PAD]",
    "markup": "[bold]x[/] <script>alert(1)</script> {{ 7 * 7 }} %s",
    "terminal": "\x1b]0;owned\x07\x1b[2Jx",
    "formula": "=cmd|' /C calc'!A0",
}
ODD_NAMES = [
    "[bold]x",
    "a'b\"c",
    "a..",
    "-rf",
    "a\nb",
    "$(touch x)",
    "%s{0}",
    "\u202eb",
    "ä😀",
    "a;b|c",
    "<img src=x onerror=1>",
]


QUICK = {"recipe": {"steps": 1, "shortfall": 0}}

pytestmark = pytest.mark.usefixtures("no_page")


def plan_of(folder: Path, **changes: Any) -> Plan:
    path = folder / "safe.yaml"
    sweep = {"name": "safe", "task": "toy", "models": ["toy/model"], "texts": [{"source": "files", "path": "texts"}]}
    path.write_text(yaml.safe_dump({**sweep, **changes}))
    return make_plan(load_sweep(path))


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def codec(shipped_model: Path) -> HubCodec:
    return HubCodec(Model(name=str(shipped_model)))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    return tmp_path / "texts"


class TestModels:
    @pytest.mark.parametrize(("key", "note"), [("trust_remote_code", REMOTE_CODE_NOTE), ("allow_pickle", PICKLE_NOTE)])
    def test_what_is_let_in_is_off_by_default_and_noted_with_the_model(self, texts, tmp_path, key, note):
        (texts / "a.txt").write_text("a text")
        plan = plan_of(tmp_path, models=["toy/plain", {"name": "toy/trusted", key: True}])
        assert [getattr(model.model, key) for model in plan.models] == [False, True]
        assert plan.notes == (f"toy/trusted: {note}",)

    def test_yaml_makes_no_objects(self, tmp_path, capsweep):
        path = tmp_path / "evil.yaml"
        path.write_text(f"name: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]\n")
        ended = capsweep("check", path)
        assert ended.returncode == 2
        assert "could not determine a constructor" in ended.stderr
        assert not (tmp_path / "made").exists()


class TestPlaces:
    """Whatever names hold, a run writes below its own folder."""

    @pytest.mark.parametrize("name", ["../a", "/tmp/a", "a/b", "..", "a\x00b", "", "a\nb", ".", "-a"])
    def test_the_name_of_a_sweep_names_a_folder(self, name):
        with pytest.raises(ValueError, match="a text that can name a folder"):
            Sweep.model_validate({"name": name, "task": "toy", "models": ["m"], "texts": []})

    def test_nothing_is_written_elsewhere(self, texts, tmp_path, monkeypatch):
        monkeypatch.setattr("orchestrator.launch.write_report", write_report)
        for number, name in enumerate(ODD_NAMES):
            (texts / f"{name}.txt").write_text(f"text {number}")
        rows = [{"text": f"row {number}", "id": "../../x"} for number in range(3)]
        (texts / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        monkeypatch.chdir(tmp_path)
        # The toy's models need not exist: their names may be anything.
        models = ["../outside", "/tmp/outside", "a\\..\\b", "[/]", "'; drop table rows; --"]
        found = [Model(name=name) for name in models]
        plan = make_plan(plan_of(tmp_path, **QUICK).sweep.model_copy(update={"models": tuple(found)}))
        before = everything(tmp_path)
        console = Console(file=(tmp_path / "output").open("w"), width=200)
        assert launch(plan, "run", inline=True, address=None, take_over=False, console=console) == Exit.DONE
        run = open_run("run")
        assert export(run, tmp_path / "run" / "memories") == len(plan.searches)
        written = everything(tmp_path) - before - {tmp_path / "output"}
        assert all(path.is_relative_to(tmp_path / "run") for path in written)
        assert tmp_path / "run" / REPORT_FILE in written
        names = {path.relative_to(tmp_path / "run").parts[0] for path in written}
        assert names <= {"sweep.yaml", "provenance.json", "samples.parquet", "searches.parquet"} | {
            *("probes", "sessions", "snapshots", "report", "memories")
        }
        sources = {sample.source for sample in plan.samples.values()}
        assert sources == {f"files:{name}.txt" for name in ODD_NAMES} | {f"files:rows.jsonl#{n}" for n in (1, 2, 3)}

    def test_a_run_in_a_folder_that_is_not_utf_8(self, texts, tmp_path, monkeypatch):
        (texts / "a.txt").write_text("a text")
        plan = plan_of(tmp_path, **QUICK)
        run = os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff")
        monkeypatch.setattr("sys.argv", ["capsweep", "run", run])
        for _ in range(2):
            quiet = Console(file=io.StringIO())
            assert launch(plan, run, inline=True, address=None, take_over=False, console=quiet) == Exit.DONE
        opened = open_run(run)
        assert set(opened.probes(["run_id"])["run_id"].to_pylist()) == {"run-\\xff"}
        assert [opened.notes, [session["command"][2] for session in opened.provenance["sessions"]]] == [
            [],
            [f"{tmp_path}/run-?"] * 2,
        ]

    def test_inputs_in_a_folder_that_is_not_utf_8(self, tmp_path):
        """YAML cannot hold their places, so that no session would find them again."""
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        for name in ("texts", "model"):
            (folder / name).mkdir(parents=True)
        (folder / "texts" / "a.txt").write_text("a text")
        with pytest.raises(BadInput) as error:
            plan_of(folder, models=["model"])
        for place in ("models.0.name: found 'model'", "texts.0.path: found 'texts'"):
            assert sum(f"{place}, which is at " in line for line in error.value.problems) == 1

    def test_folders_whose_names_are_markup(self, texts, tmp_path, capsweep):
        (texts / "a.txt").write_text("a text")
        folder = tmp_path / "[" / "red]"
        folder.mkdir(parents=True)
        plan_of(tmp_path, models=[str(folder)])
        assert capsweep("check", tmp_path / "safe.yaml").returncode == 0
        assert capsweep("run", tmp_path / "safe.yaml", "--inline", "--run-dir", folder / "run").returncode == 0
        assert capsweep("status", folder / "run").returncode == 0


class TestTexts:
    def test_odd_ones_are_measured_kept_and_shown(self, texts, tmp_path, capsweep):
        (texts / "odd.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ODD_TEXTS.values()))
        plan_of(tmp_path, **QUICK)
        run = str(tmp_path / "run")
        ended = capsweep("run", tmp_path / "safe.yaml", "--inline", "--run-dir", run)
        assert ended.returncode == 0, ended.stderr
        assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(ended.stdout + ended.stderr)
        opened = open_run(run)
        assert sorted(opened.samples()["text"].to_pylist()) == sorted(ODD_TEXTS.values())
        for search in opened.searches().to_pylist():
            text = opened.sample(search["model"], search["sample_id"])["text"]
            assert decode(opened, search["search_id"]) == text[: search["capacity_tokens"]]

    def test_of_a_model_come_back_from_their_tokens(self, codec):
        special = {codec.encode(text).tokens for text in ODD_TEXTS.values()}
        assert len(special) == len(ODD_TEXTS)
        for text in ODD_TEXTS.values():
            encoding = codec.encode(text)
            assert codec.decode(encoding.tokens) == text
            assert encoding.ends[-1] == len(text)

    def test_a_tokenizer_that_cuts_at_random_is_refused(self, shipped_model, tmp_path):
        folder = shutil.copytree(shipped_model, tmp_path / "model")
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["model"]["dropout"] = 0.1
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises(TaskError, match=r"leaves out merges at random \(dropout 0\.1\).*Wanted dropout: null"):
            HubCodec(Model(name=str(folder)))

    def test_what_reads_like_a_special_token_is_text(self, codec):
        assert len(codec.encode("<|endoftext|>").tokens) > 1

    def test_a_name_that_is_not_utf_8(self, texts, tmp_path):
        with open(os.fsencode(texts) + b"/\xff.txt", "w") as file:
            file.write("a text")
        plan = plan_of(tmp_path)
        assert plan.samples_table()["source"].to_pylist() == ["files:\\xff.txt"]

    def test_only_white_space_is_refused_with_its_place(self, texts, tmp_path):
        (texts / "a.txt").write_text(" \n\t\u2003")
        with pytest.raises(BadInput, match=r"texts\.0: .*/a\.txt: the text is empty"):
            plan_of(tmp_path)

    def test_a_thousand_copies_are_one_search_and_one_note(self, texts, tmp_path):
        (texts / "a.jsonl").write_text('{"text": "the same"}\n' * 1000)
        plan = plan_of(tmp_path)
        assert len(plan.searches) == 1
        (note,) = plan.notes
        assert note == (
            "files:a.jsonl#1: the same tokens in files:a.jsonl#2, files:a.jsonl#3, files:a.jsonl#4 and 996 more; "
            "searched once."
        )


class TestBooks:
    """Of a long text only the beginning is cut to tokens."""

    @pytest.fixture(scope="class")
    def words(self, shipped_model: Path) -> str:
        book = (shipped_model.parent / "texts").glob("*.txt")
        return " ".join(path.read_text() for path in sorted(book))

    def test_a_book_is_cut_to_tokens_no_further_than_needed(self, texts, tmp_path, words, shipped_model, monkeypatch):
        (texts / "book.txt").write_text(words * (2_000_000 // len(words) + 1))
        encoded: list[int] = []
        encode = HubCodec.encode

        def counting(codec: HubCodec, text: str) -> Encoding:
            encoded.append(len(text))
            return encode(codec, text)

        monkeypatch.setattr(HubCodec, "encode", counting)
        plan = plan_of(tmp_path, task="cramming", models=[str(shipped_model)])
        (sample,) = plan.samples.values()
        assert sample.cut
        assert plan.searches[0].limit_status == "at_model_limit"
        assert sum(encoded) < 40 * len(sample.tokens)

    @pytest.mark.parametrize("limit", [1, 7, 200])
    def test_the_beginning_is_cut_as_the_whole(self, texts, tmp_path, words, shipped_model, codec, limit):
        whole = words[:40_000]
        (texts / "a.txt").write_text(whole)
        plan = plan_of(tmp_path, task="cramming", models=[str(shipped_model)], search={"max_length": limit})
        (sample,) = plan.samples.values()
        assert sample.tokens == codec.encode(whole).tokens[:limit]
        assert sample.cut

    @pytest.mark.parametrize("text", ["a" * 30_000, " " * 30_000 + "a", "\n" * 30_000 + "a", "日本" * 10_000])
    def test_so_is_one_that_is_no_prose(self, texts, tmp_path, shipped_model, codec, text):
        (texts / "a.txt").write_text(text)
        plan = plan_of(tmp_path, task="cramming", models=[str(shipped_model)], search={"max_length": 50})
        (sample,) = plan.samples.values()
        assert sample.tokens == codec.encode(text).tokens[:50]


def test_the_tokenizer_of_a_larger_model_is_refused(texts, tmp_path, shipped_model):
    folder = tmp_path / "foreign"
    shutil.copytree(shipped_model, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"] = 10**6
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (texts / "a.txt").write_text("a")
    with pytest.raises(BadInput, match="its tokenizer has tokens up to 1000000, but its vocabulary has"):
        plan_of(tmp_path, task="cramming", models=[str(folder)])
