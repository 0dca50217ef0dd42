"""Names that come from installed distributions and from files, and what is said of those that cannot be used."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.plugins import forget_included, include, include_file, included_files
from tasks.registry import RECIPES, TASKS, TEXT_SOURCES
from tasks.texts import texts_of
from tasks.values import TaskError
from tests.plugins import blocks_of, install

COUNTING = blocks_of("Plug-ins")[0]


@pytest.fixture(autouse=True)
def _only_what_a_test_includes() -> Iterator[None]:
    yield
    forget_included()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def refused(registry, name: str) -> str:
    with pytest.raises(TaskError) as caught:
        registry[name]
    (line,) = str(caught.value).splitlines()
    return line


class TestInstalled:
    def test_is_known_by_name_and_imported_when_it_is_used(self, site):
        groups = {
            "tasks": "mine_1 = plug_1:Mine",
            "text_sources": "counting = plug_1:CountingSource",
            "recipes": "long_1 = plug_1:LONG",
        }
        mine = 'from tasks.toy import ToyTask\nclass Mine(ToyTask):\n    name = "mine_1"\nLONG = {"patience": 900}\n'
        install(site, "plug-1", COUNTING + mine, "\n".join(f"[capsweep.{key}]\n{line}" for key, line in groups.items()))
        assert "mine_1" in TASKS
        assert "counting" in list(TEXT_SOURCES)
        assert "plug_1" not in sys.modules
        assert TASKS["mine_1"].name == "mine_1"
        assert TASKS["mine_1"] is TASKS["mine_1"]
        assert len(TEXT_SOURCES["counting"].model_validate({"source": "counting", "samples": 3}).read()) == 3
        assert RECIPES["long_1"] == {"patience": 900}
        assert TASKS.origin("mine_1") == "plug_1:Mine of plug-1 0.1"

    def test_that_is_gone_is_no_longer_known(self, site, monkeypatch):
        install(site, "plug-2", "TASK = 0", "[capsweep.tasks]\nmine_2 = plug_2:TASK")
        assert "mine_2" in TASKS
        monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(site)])
        assert "mine_2" not in TASKS
        with pytest.raises(KeyError):
            TASKS["mine_2"]

    @pytest.mark.parametrize(
        ("module", "message"),
        [
            ("import nowhere_to_be_found", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere"),
            ("raise ValueError('one\\ntwo')", "cannot be loaded (ValueError: one two). Mend or remove that plug-in."),
            ("", "cannot be loaded (AttributeError: module"),
            ("class IT: name = 'broken'", "lacks pinned, facts, codec"),
            ("from tasks.toy import ToyTask as IT", "its `name` is 'toy'. Wanted the name by which it is offered."),
        ],
    )
    def test_that_is_broken_is_one_line_and_stops_nothing_else(self, site, monkeypatch, module, message):
        version = f"0.{abs(hash(module))}"  # what is loaded is kept by its origin
        install(site, "plug-3", module, "[capsweep.tasks]\nbroken = plug_3:IT", version=version)
        line = refused(TASKS, "broken")
        assert line.startswith("task 'broken': ")
        assert f"plug_3:IT of plug-3 {version}" in line
        assert message in line
        assert TASKS["toy"].name == "toy"

    def test_has_no_name_of_capsweep_or_of_another(self, site):
        install(
            site,
            "plug-4",
            "",
            "[capsweep.tasks]\ntoy = plug_4:A\nsame = plug_4:B\n[capsweep.recipes]\nrandom = plug_4:C",
        )
        install(site, "plug-5", "", "[capsweep.tasks]\nsame = plug_5:B")
        assert refused(TASKS, "toy") == (
            "task 'toy': offered by capsweep itself and plug_4:A of plug-4 0.1. Wanted one of them; remove or rename "
            "the other."
        )
        assert refused(RECIPES, "random").startswith(
            "recipe 'random': offered by capsweep itself and plug_4:C of plug-4"
        )
        line = refused(TASKS, "same")
        assert "plug_4:B of plug-4 0.1" in line
        assert "plug_5:B of plug-5 0.1" in line

    def test_may_be_no_other_kind_of_thing(self, site):
        install(
            site,
            "plug-6",
            "A = 3\nB = [1]",
            "[capsweep.text_sources]\na6 = plug_6:A\n[capsweep.recipes]\nb6 = plug_6:B",
        )
        assert "found 3. Wanted a class below `TextEntry`" in refused(TEXT_SOURCES, "a6")
        assert "found a list. Wanted a mapping of fields" in refused(RECIPES, "b6")


class TestIncluded:
    def test_is_known_with_what_its_tables_have(self, tmp_path):
        (tmp_path / "counting.py").write_text(COUNTING)
        include(tmp_path / "counting.py")
        assert RECIPES["patient"] == {"patience": 400}
        assert TEXT_SOURCES["counting"].__name__ == "CountingSource"
        origin = TEXT_SOURCES.origin("counting")
        assert origin is not None
        assert origin.startswith("counting.py, sha256 ")
        assert TEXT_SOURCES.origin("files") is None

    def test_source_that_reads_no_texts_is_told_what_is_wanted(self, tmp_path):
        (tmp_path / "words.py").write_text(
            "from typing import Literal\nfrom tasks.texts import TextEntry\n"
            'class Words(TextEntry, frozen=True):\n    source: Literal["words"] = "words"\n    samples: int = 1\n'
            '    def read(self, reader=None):\n        return ["a text"]\nTEXT_SOURCES = {"words": Words}\n'
        )
        include(tmp_path / "words.py")
        with pytest.raises(TaskError, match=r"^source words: read\(\) gave a str\. Wanted `Text` of tasks/values\.$"):
            texts_of(TEXT_SOURCES["words"].model_validate({"source": "words"}))

    def test_twice_is_once_and_a_changed_file_replaces_itself(self, tmp_path):
        path = tmp_path / "a.py"
        path.write_text('RECIPES = {"mine": {"steps": 1}}')
        include(path)
        include(path)
        assert len(included_files()) == 1
        include_file(included_files()[0])  # as an engine in this process does
        assert len(included_files()) == 1
        path.write_text('RECIPES = {"mine": {"steps": 2}}')
        include(path)
        assert RECIPES["mine"] == {"steps": 2}

    def test_is_every_file_of_a_folder(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / f"{name}.py").write_text(f'RECIPES = {{"mine_{name}": {{}}}}')
        include(tmp_path)
        assert {"mine_a", "mine_b"} <= set(RECIPES)

    def test_has_no_name_of_another(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / f"{name}.py").write_text('RECIPES = {"mine": {}, "published": {}}')
            include(tmp_path / f"{name}.py")
        assert "offered by a.py, sha256 " in refused(RECIPES, "mine")
        assert " and b.py, sha256 " in refused(RECIPES, "mine")
        assert "offered by capsweep itself and a.py" in refused(RECIPES, "published")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (
                "x = 1\ny = x.no\n",
                "fails when it is run in line 2 (AttributeError: 'int' object has no attribute 'no')",
            ),
            ("def broken(:\n", "fails when it is run (SyntaxError: "),
            ("raise SystemExit(0)", "fails when it is run in line 1 (SystemExit: 0)"),
            ("x = 1\n", "found none of them. Wanted at least one of TASKS, TEXT_SOURCES, RECIPES"),
            ("TASKS = ['toy']\n", "found TASKS, a list. Wanted at least one of"),
        ],
    )
    def test_that_is_broken_is_one_line_and_nothing_is_known_of_it(self, tmp_path, source, message):
        (tmp_path / "broken.py").write_text(source)
        with pytest.raises(TaskError) as caught:
            include(tmp_path / "broken.py")
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"--include {tmp_path / 'broken.py'}: ")
        assert message in line
        assert not included_files()

    def test_that_is_no_file_ends_at_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.py")
        (tmp_path / "folder.py").mkdir()
        for place in (tmp_path / "pipe.py", tmp_path, Path("/dev/null")):
            with pytest.raises(TaskError, match=r"a folder, pipe or device\. Wanted a Python"):
                include(place)

    def test_that_is_not_there(self, tmp_path):
        with pytest.raises(
            TaskError, match=r"none\.py: cannot be read \(No such file or directory\)\. Wanted a Python"
        ):
            include(tmp_path / "none.py")
        with pytest.raises(TaskError, match="holds no Python file"):
            include(tmp_path)
