"""What tasks read from the hub, and what they say when it refuses; the hub is tests/hub.py, on loopback.

Long, as each way in which a hub refuses has its test here.
"""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from tasks.hub import commit_of, why_refused
from tasks.language_model import LanguageModel
from tasks.model_files import facts
from tasks.pinning import pinned
from tasks.texts.hub import HubSource
from tasks.tokenizer import HubCodec
from tasks.values import Model, TaskError, WrongModelError
from tests.hub import TOKEN, Hub, Kind


@pytest.fixture(scope="module")
def files(shipped_model: Path) -> dict[str, bytes]:
    """The shipped model: the weights exceed the size from which the hub redirects."""
    return {file.name: file.read_bytes() for file in shipped_model.iterdir()}


def rows(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


CONFIGS = b"---\nconfigs:\n- {config_name: a, data_files: a.jsonl}\n- {config_name: b, data_files: b.jsonl}\n---\n"


class TestCommits:
    def test_a_branch_a_tag_and_a_commit_name_one(self, hub: Hub):
        first = hub.push("org/one", {"a": b"1"})
        second = hub.push("org/one", {"a": b"2"})
        third = hub.push("org/one", {"a": b"3"}, to="step2")
        proposed = hub.push("org/one", {"a": b"4"}, to="refs/pr/1")
        assert commit_of("org/one", None, "model") == commit_of("org/one", "main", "model") == second
        assert commit_of("org/one", first, "model") == first
        assert commit_of("org/one", "step2", "model") == third
        assert commit_of("org/one", "refs/pr/1", "model") == proposed
        assert commit_of("org/one", third[:8], "model") == third

    def test_an_old_id_without_owner_is_one(self, hub: Hub, files: dict[str, bytes]):
        commit = hub.push("openai-community/gpt2", files)
        hub.renamed["gpt2"] = "openai-community/gpt2"
        model = pinned(Model(name="gpt2"))
        assert model.commit == facts(model).revision == commit

    def test_the_cache_answers_for_a_hub_that_does_not(self, hub: Hub):
        commit = hub.push("org/one", {"a": b"1"})
        assert commit_of("org/one", None, "model") == commit
        hub.stop()
        assert commit_of("org/one", None, "model") == commit
        with pytest.raises(TaskError, match=r"org/one@v1: the hub \(http.*\) cannot be reached"):
            commit_of("org/one", "v1", "model")

    def test_pinned_once_it_stays(self, hub: Hub, files: dict[str, bytes]):
        model = pinned(Model(name="org/one", commit="a" * 40))
        assert model.commit == "a" * 40
        assert not hub.asked

    def test_what_was_meant_as_a_folder_is_said_to_be_none(self, hub: Hub):
        with pytest.raises(
            TaskError, match=r"^quickstart/modle: the hub has no model .*no such file or folder is here\.$"
        ):
            pinned(Model(name="quickstart/modle"))

    def test_a_folder_has_none(self, hub: Hub, shipped_model: Path):
        model = Model(name=str(shipped_model))
        assert pinned(model) == model
        assert not hub.asked


class TestWhatIsRead:
    """The hub moves on between the plan and whoever reads: nobody may follow it."""

    def test_weights_tokenizer_and_facts_are_of_the_commit(self, hub: Hub, files: dict[str, bytes]):
        hub.push("org/one", files)
        model = pinned(Model(name="org/one"))
        later = json.loads(files["config.json"]) | {"max_position_embeddings": 7}
        hub.push("org/one", {"config.json": json.dumps(later).encode()})  # without weights, without tokenizer
        found = facts(model)
        assert (found.revision, found.context) == (model.commit, 256)
        assert HubCodec(model).encode("Once upon").tokens
        assert LanguageModel(model, device="cpu").context == found.context
        assert (
            facts(pinned(Model(name="org/one", commit=model.commit, dtype="bfloat16"))).fingerprint != found.fingerprint
        )

    def test_another_commit_has_another_fingerprint(self, hub: Hub, files: dict[str, bytes]):
        hub.push("org/one", files)
        before = facts(pinned(Model(name="org/one")))
        hub.push("org/one", files)
        assert facts(pinned(Model(name="org/one"))).fingerprint != before.fingerprint

    def test_an_adapter_is_merged_or_refused(self, hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
        adapter = {"adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "org/base"}'}
        hub.push("org/alone", adapter)
        with pytest.raises(TaskError, match=r"org/alone/adapter_config.json: an adapter .* without its base"):
            facts(pinned(Model(name="org/alone")))
        hub.push("org/beside", {**files, **adapter})
        facts(pinned(Model(name="org/beside")))
        monkeypatch.setattr("tasks.model_folder.find_spec", lambda name: None)
        with pytest.raises(WrongModelError, match=r"org/beside/adapter_config.json: an adapter .* beside its base"):
            facts(pinned(Model(name="org/beside")))

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_code_is_of_its_commit_wherever_it_lies(self, hub: Hub, files: dict[str, bytes], elsewhere: bool):
        def code(version: int) -> dict[str, bytes]:
            lines = [
                "from transformers import LlamaForCausalLM",
                "class Mine(LlamaForCausalLM):",
                f"  version = {version}",
            ]
            return {"modeling_mine.py": "\n".join(lines).encode()}

        place = "org/code--" if elsewhere else ""
        config = json.loads(files["config.json"]) | {"auto_map": {"AutoModelForCausalLM": f"{place}modeling_mine.Mine"}}
        model_files = {**files, "config.json": json.dumps(config).encode()}
        hub.push("org/code", code(1))
        hub.push("org/one", {**model_files, **code(1)})
        model = pinned(Model(name="org/one", trust_remote_code=True))
        hub.push("org/code", code(2))
        hub.push("org/one", {**model_files, **code(2)})
        assert model.code_commit == (next(iter(hub.repositories["models", "org/code"].commits)) if elsewhere else None)
        facts(model)
        assert LanguageModel(model, device="cpu")._model.version == 1
        if elsewhere:
            assert facts(replace(model, code_commit=hub.repositories["models", "org/code"].refs["main"])) != facts(
                model
            )

    def test_code_of_the_hub_for_a_folder_is_of_its_commit(self, hub: Hub, files: dict[str, bytes], tmp_path: Path):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        config = json.loads(files["config.json"]) | {"auto_map": {"AutoModelForCausalLM": "org/code--modeling.Mine"}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        plain = facts(pinned(Model(name=str(tmp_path))))
        first, later = (hub.push("org/code", {"modeling.py": f"# {version}".encode()}) for version in (1, 2))
        model = pinned(Model(name=str(tmp_path), trust_remote_code=True))
        assert (model.commit, model.code_commit) == (None, later)
        assert pinned(replace(model, code_commit=first)).code_commit == first
        assert pinned(Model(name=str(tmp_path))).code_commit is None
        assert plain.revision == facts(Model(name=str(tmp_path))).revision

    def test_code_of_two_repositories_is_refused(self, hub: Hub, files: dict[str, bytes]):
        classes = {"AutoModelForCausalLM": "org/code--modeling.Mine", "AutoConfig": "configuration.Mine"}
        config = json.loads(files["config.json"]) | {"auto_map": classes}
        hub.push("org/one", {**files, "config.json": json.dumps(config).encode()})
        with pytest.raises(TaskError, match=r"several repositories \(org/code, org/one\)"):
            pinned(Model(name="org/one", trust_remote_code=True))
        assert pinned(Model(name="org/one")).commit

    def test_no_one_is_asked_to_convert_pickles(self, hub: Hub, files: dict[str, bytes]):
        """transformers would send the model's name and the token to a converter, and load what it proposes."""
        hub.push("org/one", {name: content for name, content in files.items() if not name.endswith(".safetensors")})
        with pytest.raises(TaskError, match=r"does not appear to have a file named model\.safetensors"):
            LanguageModel(pinned(Model(name="org/one")), device="cpu")
        assert not [path for _, path, _ in hub.asked if "discussions" in path]

    def test_texts_are_of_the_commit_and_config(self, hub: Hub):
        hub.push(
            "org/texts", {"README.md": CONFIGS, "a.jsonl": rows("a1"), "b.jsonl": rows("b1", "b2")}, kind="datasets"
        )
        entries = [HubSource(dataset="org/texts", config=name).pinned() for name in ("a", "b")]
        hub.push("org/texts", {"README.md": CONFIGS, "a.jsonl": rows("c"), "b.jsonl": rows("d")}, kind="datasets")
        texts = [entry.read() for entry in entries]
        assert [[text.text for text in read] for read in texts] == [["a1"], ["b1", "b2"]]
        assert texts[1][1].source == "hub:org/texts/b/train#2"
        assert [text.text for text in HubSource(dataset="org/texts", config="b").read()] == ["d"]

    def test_a_folder_of_its_name_is_not_the_data_set(self, hub: Hub, tmp_path: Path, monkeypatch):
        hub.push("org/texts", {"a.jsonl": rows("of the hub")}, kind="datasets")
        (tmp_path / "org" / "texts").mkdir(parents=True)
        (tmp_path / "org" / "texts" / "a.jsonl").write_bytes(rows("of the folder"))
        monkeypatch.chdir(tmp_path)
        assert [text.text for text in HubSource(dataset="org/texts").read()] == ["of the hub"]

    def test_offline_the_whole_data_set_in_the_cache_is_enough(self, hub: Hub, monkeypatch):
        commit = hub.push("org/texts", {"a.jsonl": rows("here"), "b.txt": b"more"}, kind="datasets")
        part = huggingface_hub.hf_hub_download("org/texts", "a.jsonl", repo_type="dataset")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(TaskError, match="HF_HUB_OFFLINE is set and the data set is not in the local cache"):
            HubSource(dataset="org/texts").pinned().read()
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.snapshot_download("org/texts", repo_type="dataset")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        hub.asked.clear()
        entry = HubSource(dataset="org/texts").pinned()
        assert (entry.commit, [text.text for text in entry.read()]) == (commit, ["here"])
        assert Path(part).is_file()
        assert not hub.asked


def read_model(name: str, revision: str | None = None) -> None:
    model = pinned(Model(name=name, revision=revision))
    facts(model)
    HubCodec(model)


def read_texts(name: str, revision: str | None = None) -> None:
    HubSource(dataset=name, revision=revision).pinned().read()


@pytest.fixture
def refusing(hub: Hub, files: dict[str, bytes]) -> Hub:
    """A hub with private and gated models and data sets."""
    texts = {"a.jsonl": rows("one", "two")}
    both: list[tuple[Kind, dict[str, bytes]]] = [("models", files), ("datasets", texts)]
    for kind, content in both:
        hub.push("org/open", content, kind=kind)
        hub.push("org/private", content, kind=kind, private=True)
        hub.push("org/gated", content, kind=kind, gated=True)
    return hub


@pytest.mark.parametrize(("read", "kind"), [(read_model, "model"), (read_texts, "data set")])
class TestRefusals:
    """The cause is told by the class of the hub's error, for models as for data sets."""

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("org/none401", "the hub has no {kind} of this name, or it is private"),
            ("none404", "the hub has no {kind} of this name, or it is private"),
            (
                "org/private",
                "or it is private. Check the name; for a private {kind}, set HF_TOKEN or run `hf auth login`",
            ),
            (
                "org/gated",
                "this {kind} is gated. Accept its terms on its page; then set HF_TOKEN or run `hf auth login`",
            ),
            ("org/open@v403", "org/open@v403: the hub has no such revision of this {kind}"),
            ("a/b/c", "no such folder, and not a hub id"),
            ("a..b", "no such folder, and not a hub id"),
        ],
    )
    def test_of_a_name(self, refusing: Hub, read: Callable[..., None], kind: str, name: str, message: str):
        name, _, revision = name.partition("@")
        with pytest.raises(TaskError) as raised:
            read(name, revision or None)
        assert message.format(kind=kind) in str(raised.value)

    def test_none_with_a_token(self, refusing: Hub, read: Callable[..., None], kind: str, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name in ("org/private", "org/gated", "org/open"):
            read(name)
        with pytest.raises(TaskError, match="with a token that may read it"):
            read("org/none")

    def test_a_token_that_is_not_accepted(self, refusing: Hub, read: Callable[..., None], kind: str, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_" + "expired" * 3)
        with pytest.raises(TaskError, match="the hub does not accept the token that is set here"):
            read("org/open")

    def test_a_token_without_access(self, refusing: Hub, read: Callable[..., None], kind: str, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        refusing.denied = True
        with pytest.raises(TaskError, match=f"this {kind} is gated.*the token that is set here has no access"):
            read("org/gated")

    @pytest.mark.parametrize(
        ("status", "message"),
        [(429, "answers 429, too many requests"), (503, "fault of its own"), (418, "answers 418")],
    )
    def test_of_the_moment(self, refusing: Hub, read: Callable[..., None], kind: str, status: int, message: str):
        refusing.down = status
        with pytest.raises(TaskError, match=message):
            read("org/open")

    def test_without_a_network(self, refusing: Hub, read: Callable[..., None], kind: str, monkeypatch):
        refusing.stop()
        with pytest.raises(TaskError, match=f"cannot be reached, and the {kind} is not in the local cache"):
            read("org/open")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(TaskError, match=f"HF_HUB_OFFLINE is set and the {kind} is not in the local cache"):
            read("org/open")


@pytest.mark.parametrize("way", ["offline", "down"])
def test_a_model_of_which_the_cache_has_a_part(hub: Hub, files: dict[str, bytes], monkeypatch, way: str):
    """transformers says that the repository has no such file."""
    hub.push("org/one", files)
    model = pinned(Model(name="org/one"))
    facts(model)
    if way == "offline":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        hub.stop()
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub tries again after a while
    message = (
        "HF_HUB_OFFLINE is set and the model is not" if way == "offline" else "cannot be reached, and the model is"
    )
    for read in (HubCodec, lambda model: LanguageModel(model, device="cpu")):
        with pytest.raises(TaskError, match=message):
            read(model)


def test_what_is_wrong_with_a_model_in_the_cache_is_not_put_down_to_the_hub(hub: Hub, files, monkeypatch):
    hub.push("org/one", {**files, "model.safetensors": files["model.safetensors"][:-9], "tokenizer.json": b"{}"})
    model = pinned(Model(name="org/one"))
    huggingface_hub.snapshot_download("org/one")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError, match="its tokenizer could not be read"):
        HubCodec(model)
    with pytest.raises(TaskError, match="its weights could not be loaded"):
        LanguageModel(model, device="cpu")


def test_a_disk_without_room_is_no_statement_on_the_model():
    error = OSError("Can't load it")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "takes no more (No space left on device)" in (why_refused(error, "model") or "")


class TestDataSetsAreNotAsAsked:
    def test_config_split_and_column_name_what_is_there(self, hub: Hub):
        hub.push("org/texts", {"README.md": CONFIGS, "a.jsonl": rows("a"), "b.jsonl": rows("b")}, kind="datasets")
        hub.push("org/other", {"train.jsonl": b'{"id": 1, "body": "x"}\n{"id": 2, "body": null}\n'}, kind="datasets")
        for wrong, message in (
            ({"dataset": "org/texts"}, r"hub:org/texts/train: .*\['a', 'b'\]"),
            ({"dataset": "org/texts", "config": "c"}, r"hub:org/texts/c/train: .*\['a', 'b'\]"),
            ({"dataset": "org/texts", "config": "a", "split": "trian"}, r"Available splits: \['train'\]"),
            ({"dataset": "org/other"}, "no column 'text'; its columns: id, body"),
            ({"dataset": "org/other", "column": "body"}, "#2: found 'None' in column 'body'"),
        ):
            with pytest.raises(TaskError, match=message):
                HubSource.model_validate(wrong).read()
