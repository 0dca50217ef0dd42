"""Every text source keeps the same promises; then what each reports when it cannot.

Long, as each text source has its tests here.
"""

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from tasks.contract import Reader
from tasks.cramming import CrammingTask
from tasks.registry import TASKS, TEXT_SOURCES
from tasks.texts import TextEntry, reordered, second_half, texts_of
from tasks.texts.files import FilesSource
from tasks.texts.hub import HubSource
from tasks.texts.model_samples import ModelSamplesSource
from tasks.texts.random_tokens import RandomTokensSource
from tasks.texts.random_words import RandomWordsSource
from tasks.values import Model, TaskError

SHIPPED_MODEL = Path(__file__).resolve().parents[2] / "sweeps" / "quickstart" / "model"
NUM_TEXTS = 5
TEXTS = [f"Text {i}.\n\nÄ line, «quoted», with a comma" for i in range(NUM_TEXTS)]


def write_txt(folder: Path) -> Path:
    for i, text in enumerate(TEXTS):
        (folder / f"{i:02}.txt").write_bytes(text.encode())
    (folder / "notes.md").write_text("not a text")
    return folder


def write_jsonl(folder: Path) -> Path:
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"id": 1, "text": text}) for text in TEXTS) + "\n\n")
    return folder / "a.jsonl"


def write_csv(folder: Path) -> Path:
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([i, text] for i, text in enumerate(TEXTS))])
    return folder / "a.csv"


def write_parquet(folder: Path) -> Path:
    table = pyarrow.table({"id": range(NUM_TEXTS), "text": TEXTS})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=2)
    return folder / "a.parquet"


def write_words(folder: Path) -> Path:
    (folder / "words.txt").write_text("alpha\nbeta\ngamma\n\ndelta\n")
    return folder / "words.txt"


@pytest.fixture(
    params=["txt", "jsonl", "csv", "parquet", "pattern", "hub", "random_words", "random_tokens", "model_samples"]
)
def source(request, tmp_path):
    """`make(samples)` gives a source that holds NUM_TEXTS texts."""

    def files(path):
        return lambda samples: FilesSource(path=str(path), samples=samples)

    match request.param:
        case "pattern":
            return files(write_txt(tmp_path) / "0*.txt")
        case "hub":
            hub = request.getfixturevalue("hub")
            hub.push("someone/texts", {"a.jsonl": write_jsonl(tmp_path).read_bytes()}, kind="datasets")
            return lambda samples: HubSource(dataset="someone/texts", samples=samples)
        case "random_words":
            words = str(write_words(tmp_path))
            return lambda samples: RandomWordsSource(words=words, samples=samples or NUM_TEXTS)
        case "random_tokens":
            return lambda samples: RandomTokensSource(samples=samples or NUM_TEXTS, tokens_per_text=20)
        case "model_samples":
            return lambda samples: ModelSamplesSource(samples=samples or NUM_TEXTS, tokens_per_text=20)
        case kind:
            return files(
                {"txt": write_txt, "jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}[kind](tmp_path)
            )


@pytest.fixture(scope="module")
def reader() -> Reader:
    """The shipped model."""
    task, model = CrammingTask(), Model(name=str(SHIPPED_MODEL))
    return Reader(model=model, facts=task.facts(model), codec=task.codec(model))


class TestEverySource:
    def test_reads_all_its_texts_in_the_same_order_each_time(self, source, reader):
        texts = source(None).read(reader)
        assert len(texts) == NUM_TEXTS
        assert source(None).read(reader) == texts
        assert all(text.text.strip() for text in texts)

    def test_samples_are_the_first_texts(self, source, reader):
        if source(1).source != "model_samples":  # drawn together, they share a generator
            assert source(2).read(reader) == source(None).read(reader)[:2]

    def test_may_be_named_and_put_in_another_order(self, source, reader):
        entry = source(2).model_copy(update={"name": "mine", "control": "reversed"})
        plain, turned = texts_of(source(2), reader), texts_of(entry, reader)
        assert [text.text.split() for text in turned] == [text.text.split()[::-1] for text in plain]
        assert all(text.source.startswith("mine reversed:") and text.tokens is None for text in turned)

    def test_texts_have_names_of_their_own_without_machine_paths(self, source, reader, tmp_path):
        names = [text.source for text in source(None).read(reader)]
        assert len(set(names)) == NUM_TEXTS
        assert all(name.startswith(f"{source(1).source}:") for name in names)
        assert not any(str(tmp_path) in name or tmp_path.name in name for name in names)

    def test_is_registered_and_survives_being_written_down(self, source):
        entry = source(2)
        assert TEXT_SOURCES[entry.source].model_validate(entry.model_dump()) == entry

    @pytest.mark.parametrize("change", [{"samples": 0}, {"samples": "2"}, {"samples": True}, {"smaples": 2}])
    def test_refuses_what_it_does_not_know(self, source, change):
        entry = source(2)
        with pytest.raises(ValidationError):
            TEXT_SOURCES[entry.source].model_validate({**entry.model_dump(), **change})


class TestFiles:
    @pytest.mark.parametrize("write", [write_txt, write_jsonl, write_csv, write_parquet])
    def test_gives_back_what_was_written(self, write, tmp_path):
        assert [text.text for text in FilesSource(path=str(write(tmp_path))).read()] == TEXTS

    def test_names_files_and_rows(self, tmp_path):
        write_txt(tmp_path)
        write_jsonl(tmp_path)
        names = [text.source for text in FilesSource(path=str(tmp_path)).read()]
        assert names[:2] == ["files:00.txt", "files:01.txt"]
        assert names[-1] == "files:a.jsonl#5"

    def test_names_under_a_pattern_keep_the_folders_that_differ(self, tmp_path):
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "x.txt").write_text(folder)
        names = [text.source for text in FilesSource(path=str(tmp_path / "*" / "x.txt")).read()]
        assert names == ["files:one/x.txt", "files:two/x.txt"]

    def test_a_byte_order_mark_is_no_text(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
        assert FilesSource(path=str(tmp_path)).read()[0].text == "hello"

    def test_does_not_look_beyond_the_samples(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "good"}\nbroken')
        assert len(FilesSource(path=str(tmp_path), samples=1).read()) == 1

    def test_a_book_fits_into_a_csv_field(self, tmp_path):
        (tmp_path / "a.csv").write_text("text\n" + "word " * 100_000)
        assert len(FilesSource(path=str(tmp_path)).read()[0].text) == 500_000

    @pytest.mark.parametrize(
        ("name", "content", "messages"),
        [
            ("a.jsonl", b'{"text": "good"}\n{"text": ', ["a.jsonl: line 2 is not usable JSON", "one object a line"]),
            ("a.jsonl", b'{"text": "good"}\n[1]', ["a.jsonl: line 2 is not an object"]),
            ("a.jsonl", b'{"body": "x", "id": 1}', ["line 1: no field 'text'", "body, id"]),
            ("a.jsonl", b'{"text": 3}', ["a.jsonl#1: 'text' is int; wanted text"]),
            ("a.jsonl", b'{"text": "good"}\n\n{"text": "\xff"}', ["a.jsonl: not UTF-8: byte 28 is 0xff", "iconv"]),
            ("a.jsonl", b'{"text": "\\ud800"}', ["surrogate"]),
            ("a.jsonl", b"", ["no text in it"]),
            ("a.csv", b"id,body\n1,x\n", ["a.csv: no column 'text'", "id, body"]),
            ("a.csv", b"id,text\n1\n", ["a.csv#1: 'text' is NoneType"]),
            ("a.csv", b'text\n"open', ["a.csv: line 2 is not CSV"]),
            ("a.csv", b"", ["a.csv: no column 'text'; found: none"]),
            ("a.parquet", b"no parquet", ["a.parquet: not a readable Parquet file"]),
            ("a.txt", b"\xef\xbb\xbfab\xe9", ["a.txt: not UTF-8: byte 5 is 0xe9"]),
            ("a.txt", b" \n", ["a.txt: the text is empty"]),
            ("a.pdf", b"%PDF", ["no usable file; found a.pdf; wanted .txt, .jsonl, .ndjson, .parquet, .csv"]),
        ],
    )
    def test_reports_what_is_wrong_with_a_file(self, tmp_path, name, content, messages):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TaskError) as error:
            FilesSource(path=str(tmp_path)).read()
        for message in messages:
            assert message in str(error.value)

    def test_names_the_columns_that_a_parquet_file_has(self, tmp_path):
        pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
        with pytest.raises(TaskError, match=r"no column 'text'; found: id, body\."):
            FilesSource(path=str(tmp_path)).read()

    def test_missing_path(self, tmp_path):
        with pytest.raises(TaskError, match="there is no such file or folder"):
            FilesSource(path=str(tmp_path / "nowhere")).read()

    def test_empty_folder_and_pattern_without_match(self, tmp_path):
        for path in (tmp_path, tmp_path / "*.txt"):
            with pytest.raises(TaskError, match=r"no usable file; found nothing; wanted \.txt"):
                FilesSource(path=str(path)).read()

    def test_path_that_the_system_refuses(self):
        with pytest.raises(TaskError, match="cannot be read"):
            FilesSource(path="x" * 5000).read()


class TestRandomWords:
    def test_same_words_on_every_machine(self, tmp_path):
        """Written down once: another machine or Python that gives other words would change every result."""
        source = RandomWordsSource(words=str(write_words(tmp_path)), samples=2, words_per_text=6)
        assert [text.text for text in source.read()] == [
            "delta beta gamma beta delta delta",
            "delta beta delta gamma delta gamma",
        ]

    def test_length_seed_and_number_matter(self, tmp_path):
        words = str(write_words(tmp_path))
        first, second = RandomWordsSource(words=words, samples=2).read()
        assert len(first.text.split()) == 400
        assert first.text != second.text
        assert RandomWordsSource(words=words, samples=1, seed=1).read()[0].text != first.text
        assert set(first.text.split()) == {"alpha", "beta", "gamma", "delta"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\n\n", "no words in it"),
            (b"one\ntwo three\n", "line 2 has 2 words"),
            (b"caf\xe9", "not UTF-8: byte 3 is 0xe9"),
        ],
    )
    def test_reports_what_is_wrong_with_the_list(self, tmp_path, content, message):
        (tmp_path / "words.txt").write_bytes(content)
        with pytest.raises(TaskError, match=message):
            RandomWordsSource(words=str(tmp_path / "words.txt"), samples=1).read()

    def test_more_words_than_ram_holds(self, tmp_path):
        source = RandomWordsSource(words=str(write_words(tmp_path)), samples=2, words_per_text=2**31 - 1)
        with pytest.raises(TaskError, match=r"samples times words_per_text is 4,294,967,294 words; wanted at most"):
            source.read()

    def test_missing_list(self, tmp_path):
        with pytest.raises(TaskError, match=r"words\.txt: cannot be read \(No such file or directory\)"):
            RandomWordsSource(words=str(tmp_path / "words.txt"), samples=1).read()


def test_tasks_are_named_as_they_name_themselves():
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}


class TestSecondHalf:
    def test_cuts_between_sentences_abbreviations_or_not(self):
        text = "Mr. Smith went to Washington. He came back.  Then he slept.\nHe woke up."
        assert second_half(text) == "Then he slept. He woke up."
        assert second_half("One. Two. Three.") == "Two. Three."

    def test_one_sentence_has_none_and_that_is_reported(self, tmp_path):
        (tmp_path / "a.txt").write_text("Only one sentence")
        assert second_half("Only one sentence") == ""
        with pytest.raises(TaskError, match=r"files:a\.txt: second_half: a text of one sentence"):
            texts_of(FilesSource(path=str(tmp_path), second_half=True))

    def test_is_another_group(self, tmp_path):
        (tmp_path / "a.txt").write_text("One. Two.")
        (text,) = texts_of(FilesSource(path=str(tmp_path), second_half=True))
        assert (text.text, text.source) == ("Two.", "files second half:a.txt")


class TestControls:
    WORDS = " ".join(f"w{i}" for i in range(20))

    def test_each_has_as_many_words(self):
        for control in ("repeated", "reversed", "shuffled"):
            assert len(reordered(self.WORDS, control).split()) == 20

    def test_shuffled_has_the_same_words_in_one_other_order(self):
        shuffled = reordered(self.WORDS, "shuffled")
        assert sorted(shuffled.split()) == sorted(self.WORDS.split())
        assert shuffled == reordered(self.WORDS, "shuffled") != self.WORDS

    def test_repeated_repeats_the_first_eight(self):
        words = reordered(self.WORDS, "repeated").split()
        assert words[:8] == words[8:16] == self.WORDS.split()[:8]

    @pytest.mark.parametrize("control", ["repeated", "reversed", "shuffled"])
    def test_of_white_space_nothing_is_left(self, control):
        assert reordered(" \n\t", control) == ""


class TestOfTheReader:
    def test_tokens_are_the_models_own_and_none_is_special(self, reader):
        for entry in (RandomTokensSource(samples=3), ModelSamplesSource(samples=3, tokens_per_text=20)):
            for text in texts_of(entry, reader):
                assert text.tokens
                assert set(text.tokens) <= set(reader.codec.ordinary_tokens)
                assert text.text == reader.codec.decode(text.tokens)

    def test_what_a_model_draws_is_likelier_to_it_than_chance(self, reader):
        from tasks.language_model import LanguageModel
        from tasks.scoring import score_without_memory
        from tasks.values import Question

        model = LanguageModel(reader.model, device="cpu")

        def nats(entry: TextEntry) -> float:
            texts = texts_of(entry, reader)
            scored = [score_without_memory(model, text.tokens or (), question=Question()) for text in texts]
            return sum(found.nats for found in scored) / sum(found.length for found in scored)

        cold = nats(ModelSamplesSource(samples=3, tokens_per_text=30, temperature=0.5))
        warm = nats(ModelSamplesSource(samples=3, tokens_per_text=30))
        assert cold < warm < nats(RandomTokensSource(samples=3, tokens_per_text=30))
