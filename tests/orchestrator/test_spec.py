"""The sweep file: what it gives, and the message when it cannot be used.

Long, as each field that can be wrong has its message here.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import BadInput, suggest
from orchestrator.spec.search import RandomLengths
from orchestrator.spec.sweep import Sweep
from orchestrator.spec.sweep_file import dump, load_sweep
from tasks.recipe import SphereRecipe
from tasks.values import EngineSettings, Model

FULL = """
name: pythia-pg19
task: cramming
models:
  - EleutherAI/pythia-160m
  - {name: meta-llama/Llama-3.2-1B, revision: main, dtype: bfloat16}
texts:
  - {source: files, path: texts/, samples: 50}
  - {source: hub, dataset: yurakuratov/pg19_valid_1k_chunks, split: train, column: text, samples: 50, revision: null}
  - {source: random_words, words: words.txt, samples: 50, seed: 0}
num_vectors: [1, 2, 4]
prefix: null
seeds: [0]
criterion: exact
decode_from: memory
search: {max_length: null, growth: 1.1, retries: 2}
recipe: default
budget: {minutes: null}
engines:
  {device: auto, count: auto, gpus: auto, cpus: auto, tokens_per_step: auto, probes_per_trial: auto,
   deterministic: false}
storage: runs/
"""
MINIMAL = "name: small\nmodels: [some/model]\ntexts: [{source: files, path: texts/}]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder for sweep files, with the texts and words that they name."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a text")
    (folder / "words.txt").write_text("word")
    return folder


@pytest.fixture
def load(folder):
    """Load a sweep from its YAML."""

    def load(text: str) -> Sweep:
        path = folder / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return load_sweep(path)

    return load


@pytest.fixture
def problems(load, folder):
    """The lines that a sweep file is refused with, without the file's name."""

    def problems(text: str) -> list[str]:
        with pytest.raises(BadInput) as error:
            load(text)
        assert str(error.value) == "\n".join(error.value.problems)
        start = f"{folder / 'mine.yaml'}: "
        assert all(line.startswith(start) and "\n" not in line for line in error.value.problems)
        return [line.removeprefix(start) for line in error.value.problems]

    return problems


class TestGoodSweeps:
    def test_everything_that_the_manual_shows(self, load):
        sweep = load(FULL)
        assert sweep.models == (
            Model(name="EleutherAI/pythia-160m"),
            Model(name="meta-llama/Llama-3.2-1B", revision="main", dtype="bfloat16"),
        )
        assert [text.source for text in sweep.texts] == ["files", "hub", "random_words"]
        assert sweep.num_vectors == (1, 2, 4)

    def test_defaults(self, load):
        sweep = load(MINIMAL)
        assert (sweep.task, sweep.num_vectors, sweep.seeds, sweep.prefix) == ("cramming", (1,), (0,), None)
        assert (sweep.criterion, sweep.decode_from, sweep.storage) == ("exact", "memory", "runs/")
        assert sweep.recipe == SphereRecipe().model_dump()
        assert sweep.engine_settings() == EngineSettings()

    @pytest.mark.parametrize(
        "text",
        [
            FULL,
            MINIMAL,
            MINIMAL + "criterion: {teacher_forced: 0.99}\nrecipe: published",
            MINIMAL + "criterion: {margin: 0.5}\ncontext: {repeat: 8}\nrecipe: random",
        ],
    )
    def test_what_is_dumped_loads_as_the_same_sweep(self, load, text):
        sweep = load(text)
        assert load(dump(sweep)) == sweep

    def test_texts_can_be_read(self, load):
        assert [text.text for text in load(MINIMAL).texts[0].read()] == ["a text"]

    def test_is_frozen(self, load):
        with pytest.raises(ValueError, match="frozen"):
            load(MINIMAL).name = "other"


class TestWhatTheRestOfTheProgramIsGiven:
    def test_question(self, load):
        question = load(
            MINIMAL + "criterion: {teacher_forced: 0.99}\ndecode_from: memory+first_token\nsearch: {growth: 2}\n"
            "prefix: bos\nrecipe: {steps: 10}"
        ).question()
        assert (question.criterion, question.decode_from) == (0.99, "memory+first_token")
        assert (question.prefix, question.growth) == ("bos", 2.0)
        assert question.recipe == {**SphereRecipe().model_dump(), "steps": 10}
        assert load(MINIMAL).question().criterion is None
        firm = load(MINIMAL + "criterion: {margin: 1.0}").question()
        assert (firm.criterion, firm.least_margin) == (None, 1.0)

    def test_engine_settings(self, load):
        entry = "engines: {device: cpu, cpus: 2, tokens_per_step: 512, gpus: 0.5, deterministic: true}"
        assert load(MINIMAL + entry).engine_settings() == EngineSettings(
            device="cpu", cpus=2, tokens_per_step=512, deterministic=True
        )

    def test_another_task_has_its_own_recipe(self, load, problems):
        assert load(MINIMAL + "task: toy\nrecipe: {slots: 3}").question().recipe["slots"] == 3
        assert problems(MINIMAL + "task: toy\nrecipe: {slot: 3}")[0].endswith("Did you mean 'slots'?")


class TestPlaces:
    def test_beside_the_sweep_file_first(self, load, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "texts").mkdir()
        assert Path(load(MINIMAL).texts[0].path).resolve() == folder / "texts"

    def test_then_in_the_current_directory(self, load, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "here").mkdir()
        sweep = load("name: a\nmodels: [here]\ntexts: [{source: files, path: ./here}]")
        assert (sweep.models[0].name, sweep.texts[0].path) == (str(tmp_path / "here"), str(tmp_path / "here"))

    def test_patterns(self, load):
        assert len(load(MINIMAL.replace("texts/", "'texts/*.txt'")).texts[0].read()) == 1

    def test_local_models(self, load, folder, problems):
        (folder / "tiny").mkdir(exist_ok=True)
        local = load(MINIMAL.replace("some/model", "tiny")).models[0].name
        assert local == str(folder / "tiny")
        for missing in ("./nowhere", "models/of/mine", "nowhere/"):
            assert problems(MINIMAL.replace("some/model", missing))[0].startswith(f"models.0.name: found '{missing}'")

    @pytest.mark.parametrize("key", ["some/model", "texts/"])
    def test_a_name_longer_than_any(self, problems, key):
        (line,) = problems(MINIMAL.replace(key, "x" * 5000))
        assert line.endswith("x'; no part of a path may be longer than 255 bytes.")
        assert len(line) < 200

    def test_both_places_are_named(self, problems, folder):
        (line,) = problems(MINIMAL.replace("texts/", "txts"))
        assert line == (
            f"texts.0.path: found 'txts', but there is no such file or folder; tried {folder / 'txts'} and txts."
        )


REFUSED = {
    "name: a b": ["name: found 'a b'; it should be a text that can name a folder"],
    "name: ../a": ["name: found '../a'"],
    "name: 2024": ["name: found 2024"],
    "task: craming": [
        "task: 'craming' is not a task. known: cramming, one_step, prefix, toy. Did you mean 'cramming'?"
    ],
    "models: []": ["models: the list is empty"],
    "models: [{name: a/b, revision: x, revisions: [y]}]": ["models: entry 0 has both revision and revisions"],
    "models: [{name: a/b, revisions: []}]": ["models: entry 0: revisions should be a list of texts"],
    "search: {policy: grid}": ["search: policy: grid needs lengths"],
    "search: {lengths: [4]}": ["search.lengths: only policy: grid has lengths"],
    "search: {policy: grid, lengths: [0]}": ["search.lengths: found [0]; it should be a list of lengths in tokens"],
    "search: {policy: grid, lengths: {draws: 3, shortest: 9, longest: 4}}": ["search.lengths: found"],
    "models: [a/b, a/b]": ["models: entries 0 and 1 are the same"],
    "models: [3]": ["models.0: found 3; it should be the name of a model, or a mapping with its name."],
    "models: [{name: a/b, dtyp: float32}]": ["models.0.dtyp: unknown key.", "Did you mean 'dtype'?"],
    "models: [{name: a/b, dtype: bfloat17}]": ["models.0.dtype: found 'bfloat17'.", "Did you mean 'bfloat16'?"],
    "models: [{revision: main}]": [
        "models.0.name: missing. Hub id or local folder; or a GGUF file, local or `owner/name/file.gguf` on the hub."
    ],
    "texts: [{source: file, path: texts}]": [
        "texts.0.source: 'file' is not a text source. "
        "known: files, hub, random_words, random_tokens, model_samples. Did you mean 'files'?"
    ],
    "texts: [{path: texts}]": [
        "texts.0.source: no source is named. known: files, hub, random_words, random_tokens, model_samples."
    ],
    "texts: [texts]": ["texts.0: found 'texts'; it should be a mapping such as {source: files, path: texts/}."],
    "texts: {source: files}": ["texts: found {'source': 'files'}; it should be a list."],
    "texts: [{source: files, path: texts, sample: 3}]": ["texts.0.sample: unknown key.", "Did you mean 'samples'?"],
    "texts: [{source: files, path: texts, samples: '3'}]": ["texts.0.samples: found '3'", "did you mean 3?"],
    "texts: [{source: random_words, words: words.txt}]": ["texts.0.samples: missing. How many texts to make."],
    "num_vectors: [0]": ["num_vectors.0: found 0; it should be greater than or equal to 1."],
    "num_vectors: [true]": ["num_vectors.0: found true; it should be a whole number."],
    "num_vectors: 4": ["num_vectors: found 4; it should be a list. Did you mean [4]?"],
    "num_vectors: [1, 2, 1]": ["num_vectors: entries 0 and 2 are the same; remove one."],
    "context: -1": [
        "context: found -1; it should be a whole number of at least 0, or {repeat: N} with N of at least 1."
    ],
    "context: {repeat: 0}": ["context: found {'repeat': 0}"],
    "prefix: eos": ["prefix: found 'eos'; it should be bos or null."],
    "seeds: [-1]": ["seeds.0: found -1"],
    "seeds: [1.0]": ["seeds.0: found 1.0; it should be a whole number."],
    "criterion: exct": [
        "criterion: found 'exct'; it should be exact, {margin: M} with M above 0, or {teacher_forced: S}"
    ],
    "criterion: {margin: 0}": ["criterion: found {'margin': 0}"],
    "criterion: {teacher_forced: 1.1}": ["criterion: found {'teacher_forced': 1.1}"],
    "decode_from: memory+first_token": [
        "decode_from: found 'memory+first_token', which cannot be exact; "
        "wanted memory, or criterion: {teacher_forced: S} with it."
    ],
    "decode_from: memry": ["decode_from: found 'memry'. known: memory, memory+first_token. Did you mean 'memory'?"],
    "search: {growth: 1}": ["search.growth: found 1; it should be greater than 1."],
    "search: {growth: .inf}": ["search.growth: found inf; it should be a finite number."],
    "search: {max_lenght: 3}": ["search.max_lenght: unknown key.", "Did you mean 'max_length'?"],
    "search: null": ["search: found null; it should be a mapping."],
    "recipe: publishd": ["recipe: 'publishd' is not a recipe; known: default, published"],
    "recipe: null": ["recipe: found null; it should be the name of a recipe, or a mapping of fields."],
    "recipe: {optimizer: [sphere]}": ["recipe: optimizer: ['sphere'] is not an optimizer; known: sphere, adamw"],
    "recipe: {learning_rate: 1.0}": ["recipe.learning_rate: unknown key. known: optimizer, radius, turn"],
    "recipe: {optimizer: adam}": ["recipe: optimizer: 'adam' is not an optimizer; known: sphere, adamw"],
    "recipe: {patiense: 3}": ["recipe.patiense: unknown key.", "Did you mean 'patience'?"],
    "recipe: {optimizer: adamw, learning_rate: 1e-3}": ["recipe.learning_rate: found '1e-3'", "did you mean 0.001?"],
    "recipe: {steps: 0}": ["recipe.steps: found 0; it should be greater than or equal to 1."],
    "budget: {minutes: 0}": ["budget.minutes: found 0; it should be greater than 0."],
    "engines: {device: gpu}": ["engines.device: found 'gpu'. known: auto, cpu, cuda, mps."],
    "engines: {count: none}": ["engines.count: found 'none'; it should be a whole number of at least 1, or auto."],
    "engines: {deterministic: 1}": ["engines.deterministic: found 1; it should be true or false."],
    "storage: ''": ["storage: found ''; it should be text that is not empty."],
    "serch: {}": ["serch: unknown key. known: name, task,", "Did you mean 'search'?"],
    '"a\\nb": 4': ["'a\\nb': unknown key."],
    "models: a/b": ["models: found 'a/b'; it should be a list. Did you mean [a/b]?"],
    "3: 4": ["3: found 3; it should be a key that is text."],
}


class TestRefusedSweeps:
    @pytest.mark.parametrize("entry", REFUSED)
    def test_one_line_states_where_what_was_found_and_what_is_allowed(self, problems, entry):
        key = entry.split(":")[0]
        kept = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key}:")]
        (line,) = problems("\n".join([*kept, entry]))
        assert line.startswith(REFUSED[entry][0])
        assert all(words in line for words in REFUSED[entry])

    def test_all_problems_at_once(self, problems):
        lines = problems("name: a\nnam: b\nmodels: [{nme: x}, 4]\ntexts: []\nseeds: ['1', 2]\nsearch: {growth: 0}")
        places = [line.split(": ")[0] for line in lines]
        assert places == ["models.0.name", "models.0.nme", "models.1", "texts", "seeds.0", "search.growth", "nam"]

    def test_what_is_missing(self, problems):
        assert [line.split(".")[0] for line in problems("task: cramming")] == [
            "name: missing",
            "models: missing",
            "texts: missing",
        ]

    def test_keys_given_twice(self, problems):
        assert problems(MINIMAL + "seeds: [1]\nseeds: [2]\nsearch: {retries: 1, retries: 2}") == [
            "seeds: given twice, in line 4 and in line 5. Keep one.",
            "search.retries: given twice, in line 6 and in line 6. Keep one.",
        ]


class TestFilesThatAreNoSweep:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("", "the file is empty"),
            ("# only a comment\n", "the file is empty"),
            ("- a\n- b\n", "found a list. Wanted a mapping"),
            ("just words", "found a str. Wanted a mapping"),
            ("name: a\nmodels: [b\n", "not YAML: line 3, column 1: "),
            ("name: *nobody", "not YAML: line 1, column 7: found undefined alias 'nobody'."),
            ("name: !!python/object:os.system {}", "not YAML: line 1, column 7: could not determine a constructor"),
            ("name: 2024-13-45", "not YAML: ValueError: month must be in 1..12"),
            ("name: !!timestamp x", "not YAML: AttributeError: "),
            ("name: !!int ''", "not YAML: IndexError: "),
            ("name: !!bool x", "not YAML: KeyError: "),
            (
                "a: 1\n---\nb: 2",
                "not YAML: line 2, column 1: expected a single document in the stream, but found another",
            ),
            ("? [a]\n: 1", "not YAML: line 1, column 3: found unhashable key."),
            ("[" * 1000, "not YAML: RecursionError"),
            (
                "seeds: [0x" + "f" * 5000 + "]",
                "not YAML: line 1, column 9: found a whole number of more than",
            ),
            ('name: "\\ud800"', "not YAML: line 1, column 7: found half of a surrogate pair, which is no character."),
        ],
    )
    def test_the_message_states_what_it_is(self, problems, content, expected):
        (line,) = problems(content)
        assert line.startswith(expected)

    def test_the_entries_of_a_long_list_are_not_compared_with_each_other(self, load, monkeypatch):
        compared: list[Model] = []
        equal = Model.__eq__

        def counting(model: Model, other: object) -> bool:
            compared.append(model)
            return equal(model, other)

        names = [f"some/model-{number}" for number in range(500)]
        monkeypatch.setattr(Model, "__eq__", counting)
        assert len(load(MINIMAL.replace("some/model", ", ".join(names))).models) == 500
        assert len(compared) < 500

    def test_a_mapping_within_itself(self, problems):
        assert len(problems("&a\nname: x\nmodels: [m]\ntexts: [*a]\nbudget: *a")) > 1

    def test_missing_file_folder_and_binary(self, tmp_path):
        (tmp_path / "binary.yaml").write_bytes(b"name: \xff")
        for name, expected in [
            ("no.yaml", "there is no such file"),
            ("", "cannot be read"),
            ("binary.yaml", "not UTF-8"),
        ]:
            with pytest.raises(BadInput, match=expected):
                load_sweep(tmp_path / name)


def test_suggest_names_what_is_known_and_what_is_near():
    assert suggest("fils", ["files", "hub"]) == "known: files, hub. Did you mean 'files'?"
    assert suggest("pg91", ["files", "hub"]) == "known: files, hub."


def test_import_brings_nothing_heavy():
    heavy = "{'torch', 'transformers', 'datasets', 'ray', 'pyarrow'}"
    code = f"import sys, orchestrator.spec.sweep_file; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout == "set()\n"


def test_revisions_stand_for_as_many_models(load):
    text = MINIMAL.replace("[some/model]", "[{name: some/model, revisions: [step1, step2], dtype: bfloat16}]")
    assert [(model.name, model.revision, model.dtype) for model in load(text).models] == [
        ("some/model", "step1", "bfloat16"),
        ("some/model", "step2", "bfloat16"),
    ]


def test_a_grid_is_a_list_or_drawn_for_each_search(load):
    listed = load(MINIMAL + "search: {policy: grid, lengths: [4, 8]}").search.lengths
    assert listed == (4, 8)
    drawn = load(MINIMAL + "search: {policy: grid, lengths: {draws: 9, shortest: 4, longest: 30}}").search.lengths
    assert isinstance(drawn, RandomLengths)
    assert drawn.draw("a") == drawn.draw("a") != drawn.draw("b")
    assert all(4 <= length <= 30 for length in drawn.draw("a"))


def test_a_run_of_an_earlier_commit_is_read_with_the_option_that_is_gone(load, problems):
    written = load(MINIMAL).model_dump(mode="json")
    written["engines"]["stall_seconds"] = 600.0
    assert Sweep.model_validate(written) == load(MINIMAL)
    assert "engines.stall_seconds: unknown key." in "\n".join(problems(MINIMAL + "engines: {stall_seconds: 600}\n"))


@pytest.mark.parametrize(
    ("entry", "where", "shown"),
    [
        ('models: ["a\\0b"]', "models.0: ", r"'\x00'"),
        ('models: [{name: "a\\Nb"}]', "models.0.name: ", r"'\x85'"),
        ('storage: "runs\\Lx/"', "storage: ", r"'\u2028'"),
    ],
)
def test_a_control_character_is_refused_where_it_stands(problems, entry, where, shown):
    text = "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(entry.split(":")[0]))
    found = "\n".join(problems(f"{text}{entry}\n"))
    assert f"{where}found " in found
    assert f"must not hold the character {shown}" in found
