"""A run on the hub: one commit, without paths and secrets, that comes back as a run. The hub is on loopback."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load

from tests.hub import TOKEN, Hub

PLACE = "hf://me/toy"
SECRET = "PLANTEDplantedPLANTED"
HOST = "planted-host"


@pytest.fixture
def run(finished, toy_sweep: Path) -> Path:
    return finished(toy_sweep)


def pushed(hub: Hub, name: str = "me/toy") -> dict[str, bytes]:
    """The files of the data set."""
    repository = hub.repositories["datasets", name]
    return repository.commits[repository.refs["main"]]


def commits(hub: Hub) -> int:
    return sum(path.endswith("/commit/main") for _, path, _ in hub.asked)


def words(files: dict[str, bytes]) -> dict[str, str]:
    """What everybody reads there: the bytes, and what the tables hold, for their bytes are compressed."""
    tables = {name: pq.read_table(io.BytesIO(content)) for name, content in files.items() if name.endswith(".parquet")}
    shown = {name: f"{table.to_pylist()}{table.schema.metadata}" for name, table in tables.items()}
    return {name: name + content.decode("latin-1") + shown.get(name, "") for name, content in files.items()}


class TestPush:
    def test_one_commit_of_few_files(self, run, hub, capsweep):
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 0, ended.stderr
        said = ended.stdout.splitlines()
        assert said[0].startswith(
            f"{PLACE}: everybody may read the sweep, 12 searches, 12 texts, and the memories, which"
        )
        assert "in one commit: " in said[-1]
        (rows,) = [name for name in pushed(hub) if name.startswith("probes/")]
        assert pushed(hub).keys() == {
            *(".gitattributes", "README.md", "sweep.yaml", "provenance.json", "searches.parquet", "samples.parquet"),
            *("memories.safetensors", rows),
        }
        assert commits(hub) == 1
        assert len(load(pushed(hub)["memories.safetensors"])) == 12

    def test_again_makes_no_commit(self, run, hub, capsweep):
        capsweep("push", run, PLACE)
        before = len(hub.uploads.blobs)
        ended = capsweep("push", run, PLACE)
        assert ended.stdout.endswith(f"{PLACE} has all of it already: no new commit\n"), ended.stderr
        assert (commits(hub), len(hub.uploads.blobs)) == (1, before)

    @pytest.mark.slow
    def test_a_run_that_went_on_replaces_its_rows_and_leaves_what_others_added(self, run, hub, capsweep, toy_sweep):
        capsweep("push", run, PLACE)
        hub.push("me/toy", {**pushed(hub), "LICENSE": b"CC-BY", "own.png": b"somebody's"}, kind="datasets")
        more = toy_sweep.with_name("more.yaml")
        more.write_text(toy_sweep.read_text() + "seeds: [0, 1]\n")
        ended = capsweep("extend", run, more, "--inline")
        assert ended.returncode == 0, ended.stderr
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 0, ended.stderr
        (rows,) = [name for name in pushed(hub) if name.startswith("probes/")]
        assert set(pq.read_table(io.BytesIO(pushed(hub)[rows]), columns=["seed"])["seed"].to_pylist()) == {0, 1}
        assert pushed(hub)["LICENSE"] == b"CC-BY"
        assert pushed(hub)["own.png"] == b"somebody's"

    def test_one_that_breaks_off_shows_nothing_and_is_continued(self, run, hub, capsweep):
        hub.uploads.lost_after = 2
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 2
        assert pushed(hub).keys() == {".gitattributes"}
        there = set(hub.uploads.blobs)
        assert len(there) == 2
        hub.uploads.lost_after = None
        hub.asked.clear()
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 0, ended.stderr
        sent = [path.removeprefix("/lfs/") for method, path, _ in hub.asked if method == "PUT"]
        assert sorted(sent) == sorted(hub.uploads.blobs.keys() - there)
        assert commits(hub) == 1

    @pytest.mark.parametrize("private", [False, True])
    def test_private(self, private, run, hub, capsweep):
        ended = capsweep("push", run, PLACE, *(["--private"] if private else []))
        assert ("only its owner may read" in ended.stdout) == private
        assert hub.repositories["datasets", "me/toy"].private == private

    def test_the_card(self, run, hub, capsweep):
        capsweep("push", run, "hf://datasets/me/toy")
        _, head, card = pushed(hub)["README.md"].decode().split("---\n", 2)
        configs = {each["config_name"]: each["data_files"] for each in yaml.safe_load(head)["configs"]}
        assert configs == {
            "searches": "searches.parquet",
            "probes": "probes/*.parquet",
            "samples": "samples.parquet",
        }
        assert "task `toy`, criterion `exact`. Every length was decoded greedily from its stored memory." in card
        head = next(line for line in card.splitlines() if line.startswith("| model"))
        named = {each.strip() for each in head.strip("|").split("|")} - {"model", "source"}
        assert {line[2:].partition(":")[0] for line in card.splitlines() if line.startswith("- ")} >= named
        assert f"capsweep verify {PLACE}" in card

    def test_the_card_says_what_its_models_need(self, run, hub, capsweep):
        provenance = json.loads((run / "provenance.json").read_text())
        kinds = [{"name": "./tiny.gguf"}, {"name": "me/tiny", "quantization": "nf4", "trust_remote_code": True}]
        (known,) = provenance["models"].values()
        provenance["models"] = {kind["name"]: {**known, "model": {**known["model"], **kind}} for kind in kinds}
        (run / "provenance.json").write_text(json.dumps(provenance))
        assert capsweep("push", run, PLACE).returncode == 0
        card = pushed(hub)["README.md"].decode()
        assert "- ./tiny.gguf: a local file, `./tiny.gguf`, float32, fingerprint" in card
        assert "- me/tiny: `me/tiny`, float32, nf4, fingerprint" in card
        assert f"capsweep verify {PLACE}" not in card, "which is refused"
        assert f"    capsweep pull {PLACE} --to DIR --trust-code\n    capsweep verify DIR\n" in card
        assert "It needs `gguf` and `quantized` of capsweep's extras. It executes code that comes with me/tiny" in card


class TestPublicWords:
    def test_no_secret_path_host_or_user(self, run, hub, capsweep, monkeypatch, tmp_path):
        """They stand in the sweep, the provenance and the reasons of rows."""
        monkeypatch.setenv("MY_TOKEN", SECRET)
        monkeypatch.setenv("LOGNAME", "planted-user")
        provenance = json.loads((run / "provenance.json").read_text())
        provenance["sessions"][0] |= {
            "host": HOST,
            "command": ["capsweep", "run", f"{tmp_path}/toy.yaml", "--run-dir", "s3://planted-bucket/runs"],
            "notes": [
                f"{HOST}: {tmp_path}/x.txt was not read",
                f"s3://planted-bucket/x refused {SECRET} of planted-user",
            ],
            "reused": [{"run": "s3://planted-bucket/other"}],
        }
        (run / "provenance.json").write_text(json.dumps(provenance))
        for file in (run / "probes").iterdir():
            table = pq.read_table(file)
            reason = f"OSError: [Errno 2] '{tmp_path}/a b/c.txt' on {HOST} (10.1.2.3), token {TOKEN}, {SECRET}"
            place = table.column_names.index("reason")
            table = table.set_column(place, table.schema.field("reason"), [[reason] * len(table)])
            file.unlink()
            pq.write_table(table, run / "probes" / "rows.parquet", write_page_checksum=True)
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 0, ended.stderr
        planted = (SECRET, TOKEN, HOST, str(tmp_path), tmp_path.parent.name, "planted", "10.1.2.3", str(Path.home()))
        found = {(name, word) for name, content in words(pushed(hub)).items() for word in planted if word in content}
        assert found == set()
        assert any("OSError: [Errno 2] 'c.txt' on [redacted]" in content for content in words(pushed(hub)).values())

    def test_a_secret_in_a_text_is_not_pushed(self, run, hub, capsweep, monkeypatch):
        monkeypatch.setenv("MY_TOKEN", "long enough to have a capacity of its own")
        ended = capsweep("push", run, PLACE)
        assert ended.returncode == 2
        assert ended.stderr.startswith("samples.parquet: would hold the value of a secret")
        assert ("datasets", "me/toy") not in hub.repositories

    def test_without_texts(self, run, hub, capsweep):
        ended = capsweep("push", run, PLACE, "--without-texts")
        assert ended.stdout.startswith(
            f"{PLACE}: everybody may read the sweep, 12 searches and their curves; no texts and"
        )
        assert [name for name, content in words(pushed(hub)).items() if "enough to have" in content] == []
        rows = next(name for name in pushed(hub) if name.startswith("probes/"))
        assert pq.read_table(io.BytesIO(pushed(hub)[rows]))["memory"].null_count == 36
        assert "memories.safetensors" not in pushed(hub)
        assert capsweep("report", PLACE, "--to", run / "page.html").returncode == 0
        for verb in (["verify", PLACE], ["decode", PLACE, "0"]):
            ended = capsweep(*verb)
            assert ended.returncode == 2
            assert ended.stderr.startswith(f"{PLACE}: was pushed without its texts and without its memories")

    @pytest.mark.slow
    def test_without_texts_after_a_push_with_them(self, run, hub, capsweep):
        capsweep("push", run, PLACE)
        ended = capsweep("push", run, PLACE, "--without-texts")
        assert f"note: earlier commits of {PLACE} hold the texts." in ended.stdout
        assert "memories.safetensors" not in pushed(hub)
        assert capsweep("push", run, PLACE, "--without-texts").stdout.endswith("no new commit\n")


class TestRefusals:
    def refused(self, ended, begins: str) -> None:
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"{PLACE}: {begins}")
        assert ended.stderr.count("\n") == 1

    def test_nobody_logged_in(self, run, hub, capsweep, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        self.refused(capsweep("push", run, PLACE), "not logged in to the hub. Set HF_TOKEN or run `hf auth login`.")
        assert hub.asked == []

    def test_a_token_that_the_hub_does_not_know(self, run, hub, capsweep, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        self.refused(capsweep("push", run, PLACE), "the hub does not accept the token that is set here")

    def test_a_token_that_may_not_write(self, run, hub, capsweep):
        hub.uploads.may_write = False
        self.refused(
            capsweep("push", run, PLACE), "the token that is set here may not write there (the hub answers 403"
        )

    def test_no_room(self, run, hub, capsweep):
        hub.uploads.room = 1000
        self.refused(capsweep("push", run, PLACE), "the hub has no room for it (403: Private repository storage limit")

    def test_something_else(self, run, hub, capsweep):
        hub.push("me/toy", {"data.csv": b"1,2"}, kind="datasets")
        self.refused(capsweep("push", run, PLACE), "holds something else than a run (data.csv). Choose another name")
        assert commits(hub) == 0

    def test_another_run(self, run, hub, capsweep):
        capsweep("push", run, PLACE)
        provenance = (run / "provenance.json").read_text()
        session = json.loads(provenance)["sessions"][0]["session_id"]
        (run / "provenance.json").write_text(provenance.replace(session, "20200101T000000-000000"))
        self.refused(capsweep("push", run, PLACE), "holds another run of capsweep. Choose another name")

    def test_a_public_one_with_private(self, run, hub, capsweep):
        capsweep("push", run, PLACE)
        self.refused(capsweep("push", run, PLACE, "--private"), "is public already")

    @pytest.mark.parametrize("place", ["hf://toy", "hf://models/me/toy", "runs/here", "hf://me/toy@main"])
    def test_no_place(self, place, run, hub, capsweep):
        ended = capsweep("push", run, place)
        assert ended.returncode == 2
        assert ended.stderr.startswith(place.partition("@")[0])


@pytest.mark.slow
class TestWhatTheHubShows:
    def test_the_picture(self, run, hub, capsweep, monkeypatch):
        monkeypatch.delenv("BROWSER_PATH")
        ended = capsweep("push", run, PLACE)
        if "the card has no picture" in ended.stdout:
            pytest.skip("needs kaleido and a browser")
        assert pushed(hub)["capacity.png"].startswith(b"\x89PNG")
        assert "](capacity.png)" in pushed(hub)["README.md"].decode()
        assert "no new commit" in capsweep("push", run, PLACE).stdout

    def test_its_tables(self, run, hub, capsweep):
        """What the viewer shows: the library that it uses reads every table by the card."""
        import datasets

        capsweep("push", run, PLACE)
        tables = {name: datasets.load_dataset("me/toy", name)["train"] for name in ("searches", "probes", "samples")}
        assert {name: table.num_rows for name, table in tables.items()} == {
            "searches": 12,
            "probes": 36,
            "samples": 12,
        }
