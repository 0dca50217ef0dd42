"""A run that was pushed to the hub, read there or pulled: it is a run. The hub is on loopback."""

import json
from pathlib import Path

import pytest

import orchestrator
from tests.hub import Hub

PLACE = "hf://me/toy"


@pytest.fixture
def run(finished, toy_sweep: Path, hub: Hub, capsweep) -> Path:
    """A run that was pushed to PLACE."""
    run = finished(toy_sweep)
    assert capsweep("push", run, PLACE).returncode == 0
    hub.asked.clear()
    return run


def downloads(hub: Hub) -> set[str]:
    """Names of the files whose content was sent, and of large files, whose places have their hash."""
    return {path.rsplit("/", 1)[1] for method, path, _ in hub.asked if method == "GET" and "/api/" not in path}


def test_the_run_is_read_where_it_lies(run, capsweep, searches_of, tmp_path):
    assert searches_of(PLACE) == searches_of(run)
    ended = capsweep("verify", PLACE)
    assert (ended.returncode, ended.stdout) == (0, "29 memories decoded, 29 exact, 0 not\n"), ended.stderr
    search_id = searches_of(run)[0]["search_id"]
    assert capsweep("decode", PLACE, search_id).stdout == capsweep("decode", run, search_id).stdout
    page = tmp_path / "page.html"
    assert capsweep("report", PLACE, "--to", page).stdout == f"{page}\n"
    assert page.stat().st_size > 100_000


def test_what_would_write_there_says_so(run, capsweep):
    for verb in (["measure", PLACE], ["verify", PLACE, "--as", "batch=8"], ["resume", PLACE, "--inline"]):
        ended = capsweep(*verb)
        assert ended.returncode == 2
        assert "a run on the hub is only read. `capsweep pull hf://me/toy --to DIR` makes" in ended.stderr


def test_a_pulled_run_is_a_run(run, capsweep, searches_of, tmp_path, toy_sweep):
    pulled = tmp_path / "pulled"
    ended = capsweep("pull", PLACE, "--to", pulled)
    assert (ended.returncode, ended.stdout) == (0, f"12 searches and 36 probes in {pulled}\n"), ended.stderr
    assert searches_of(pulled) == searches_of(run)
    assert capsweep("verify", pulled).returncode == 0
    before = orchestrator.read(str(pulled)).probes
    assert capsweep("resume", pulled, "--inline").returncode == 0
    assert orchestrator.read(str(pulled)).probes.equals(before)


def test_its_finished_searches_are_taken_over(run, hub, capsweep, searches_of, toy_sweep, tmp_path, no_page):
    ended = capsweep("run", toy_sweep, "--inline", "--run-dir", tmp_path / "other", "--reuse", PLACE)
    assert ended.returncode == 0, ended.stderr
    assert searches_of(tmp_path / "other") == searches_of(run)
    assert orchestrator.read(str(tmp_path / "other")).probes.num_rows == 36
    commit = hub.repositories["datasets", "me/toy"].refs["main"]
    taken_from = f"hf://me/toy@{commit}"
    assert f"12 finished searches taken over from {taken_from}." in ended.stdout
    provenance = json.loads((tmp_path / "other" / "provenance.json").read_text())
    assert provenance["sessions"][-1]["reused"] == [{"run": taken_from, "searches": 12, "rows": 36}]


def test_again_fetches_what_is_missing(run, hub, capsweep, tmp_path):
    pulled = tmp_path / "pulled"
    capsweep("pull", PLACE, "--to", pulled)
    hub.asked.clear()
    (pulled / "README.md").unlink()
    assert capsweep("pull", PLACE, "--to", pulled).returncode == 0
    assert downloads(hub) == {"README.md"}


def test_one_that_breaks_off_is_no_run_and_is_continued(run, hub, capsweep, tmp_path):
    pulled = tmp_path / "pulled"
    hub.withheld = {"samples.parquet"}
    ended = capsweep("pull", PLACE, "--to", pulled)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert capsweep("status", pulled).stderr.startswith(f"{pulled}: not a run directory")
    hub.withheld = set()
    assert capsweep("pull", PLACE, "--to", pulled).returncode == 0
    assert capsweep("verify", pulled).returncode == 0


def test_a_state_that_was_pushed_since(run, hub, capsweep, tmp_path, toy_sweep, searches_of, no_page):
    pulled = tmp_path / "pulled"
    capsweep("pull", PLACE, "--to", pulled)
    more = toy_sweep.with_name("more.yaml")
    more.write_text(toy_sweep.read_text() + "seeds: [0, 1]\n")
    assert capsweep("extend", run, more, "--inline").returncode == 0
    assert capsweep("push", run, PLACE).returncode == 0
    assert capsweep("pull", PLACE, "--to", pulled).stdout == f"24 searches and 72 probes in {pulled}\n"
    assert searches_of(pulled) == searches_of(run)
    assert len(list((pulled / "probes").iterdir())) == 1


@pytest.mark.slow
def test_a_model_that_was_a_folder(finished, toy_sweep, hub, capsweep, shipped_model, monkeypatch, tmp_path):
    """Its path is not public: the run is verified from the folder in which its last names lie."""
    few = {"task: toy": "task: cramming", "[toy/model]": f"[{shipped_model}]", "texts/": "texts/00.txt"}
    sweep = toy_sweep.read_text()
    for word, other in few.items():
        sweep = sweep.replace(word, other)
    toy_sweep.write_text(f"{sweep}search: {{max_length: 4}}\nengines: {{device: cpu}}\n")
    assert capsweep("push", finished(toy_sweep), PLACE).returncode == 0
    monkeypatch.chdir(shipped_model.parents[1])
    ended = capsweep("verify", PLACE)
    assert (ended.returncode, "1 memory decoded, 1 exact" in ended.stdout) == (0, True), ended.stderr
    monkeypatch.chdir(tmp_path)
    ended = capsweep("verify", PLACE)
    assert ended.returncode == 2
    assert "call this from the folder in which ./quickstart/model lies" in ended.stderr


class TestRefusals:
    def refused(self, ended, begins: str) -> None:
        assert ended.returncode == 2
        assert ended.stderr.startswith(begins)
        assert ended.stderr.count("\n") == 1

    def test_nothing_there(self, hub, capsweep, tmp_path):
        self.refused(capsweep("pull", PLACE, "--to", tmp_path / "x"), f"{PLACE}: the hub has no data set of this name")
        self.refused(capsweep("verify", PLACE), f"{PLACE}: the hub has no data set of this name")

    def test_no_run(self, hub, capsweep, tmp_path):
        hub.push("me/toy", {"data.csv": b"1,2"}, kind="datasets")
        self.refused(capsweep("pull", PLACE, "--to", tmp_path / "x"), f"{PLACE}: not a run of capsweep (no sweep.yaml")
        self.refused(capsweep("status", PLACE), f"{PLACE}: not a run directory (no sweep.yaml in it)")

    def test_a_folder_of_something_else(self, run, capsweep, tmp_path):
        self.refused(
            capsweep("pull", PLACE, "--to", run), f"{run}: is not empty, and nothing was pulled into it before"
        )

    def test_a_pulled_run_that_went_on(self, run, capsweep, tmp_path, no_page):
        capsweep("pull", PLACE, "--to", tmp_path / "pulled")
        assert capsweep("resume", tmp_path / "pulled", "--inline").returncode == 0
        ended = capsweep("pull", PLACE, "--to", tmp_path / "pulled")
        self.refused(
            ended, f"{tmp_path / 'pulled'}: holds another run than {PLACE}, or sessions that were run here since"
        )

    def test_code_of_strangers(self, run, hub, capsweep, tmp_path):
        repository = hub.repositories["datasets", "me/toy"]
        files = repository.commits[repository.refs["main"]]
        provenance = json.loads(files["provenance.json"])
        provenance["models"]["toy/model"]["model"]["trust_remote_code"] = True
        hub.push("me/toy", {**files, "provenance.json": json.dumps(provenance).encode()}, kind="datasets")
        told = f"{PLACE}: to decode its memories would execute code that comes with toy/model"
        self.refused(capsweep("verify", PLACE), told)
        self.refused(capsweep("pull", PLACE, "--to", tmp_path / "pulled"), told)
        assert capsweep("pull", PLACE, "--to", tmp_path / "pulled", "--trust-code").returncode == 0
