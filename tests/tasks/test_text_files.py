"""Files of texts: which are read, what in them would be lost or never end, and how each is refused."""

import bz2
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tasks.texts.files import FilesSource
from tasks.texts.random_words import RandomWordsSource
from tasks.values import TaskError

TEXTS = [f"Text {i}.\n\nÄ line, «quoted», with a comma" for i in range(5)]

PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".BZ2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}


class TestWhatAFolderHolds:
    """Nothing in a folder is left out without a word."""

    def read(self, path: Path) -> tuple[list[str], list[str]]:
        source = FilesSource(path=str(path))
        return [text.source.removeprefix("files:") for text in source.read()], source.notes()

    def test_files_that_are_not_read_are_counted_and_named(self, tmp_path):
        for name in ("a.txt", "B.TXT", "c.md", "d.docx", "e.parquet.gz", ".hidden"):
            (tmp_path / name).write_text("a text")
        (tmp_path / "folder.txt").mkdir()
        os.mkfifo(tmp_path / "pipe.txt")
        (tmp_path / "link.txt").symlink_to("nowhere")
        names, (note,) = self.read(tmp_path)
        assert names == ["B.TXT", "a.txt"]
        assert note.startswith(f"{tmp_path}: 6 of 8 files are not read: c.md, d.docx, e.parquet.gz, folder.txt/, link")
        assert "link.txt (a link to nothing) and 1 more. Read are .txt, .jsonl, .ndjson and .csv, also packed" in note

    def test_so_are_those_that_match_a_pattern(self, tmp_path):
        (tmp_path / "sub").mkdir()
        for name in ("a.txt", "a.md", "sub/a.txt", "sub/a.md"):
            (tmp_path / name).write_text("a text")
        names, (note,) = self.read(tmp_path / "a*")
        assert (names, "1 of 2 files is not read: a.md." in note) == (["a.txt"], True)
        names, (note,) = self.read(tmp_path / "**")
        assert (names, "2 of 4 files are not read: a.md, a.md." in note) == (["a.txt", "sub/a.txt"], True)

    def test_a_folder_that_is_read_whole_has_no_note(self, tmp_path):
        (tmp_path / "a.txt").write_text("a text")
        assert self.read(tmp_path) == (["a.txt"], [])
        assert self.read(tmp_path / "a.txt") == (["a.txt"], [])

    @pytest.mark.parametrize("suffix", PACKED)
    def test_packed_files_are_read(self, tmp_path, suffix):
        rows = "\n".join(json.dumps({"text": text}) for text in TEXTS)
        (tmp_path / f"a.jsonl{suffix}").write_bytes(PACKED[suffix](rows.encode()))
        (tmp_path / f"a.csv{suffix}").write_bytes(PACKED[suffix](b'text\n"one,\r\ntwo"\n'))
        (tmp_path / f"b.txt{suffix}").write_bytes(PACKED[suffix](b"\xef\xbb\xbfa book"))
        texts = FilesSource(path=str(tmp_path)).read()
        assert [text.text for text in texts] == ["one,\r\ntwo", *TEXTS, "a book"]
        assert texts[-1].source == f"files:b.txt{suffix}"

    @pytest.mark.parametrize("suffix", PACKED)
    def test_packed_files_that_were_joined_are_read_to_the_end(self, tmp_path, suffix):
        long = random.Random(0).randbytes(300_000).hex()
        content = b"".join(PACKED[suffix](text.encode()) for text in ("one ", long, "", " two"))
        padding = b"" if suffix == ".zst" else bytes(100_000)
        (tmp_path / f"a.txt{suffix}").write_bytes(content + padding)
        (text,) = FilesSource(path=str(tmp_path)).read()
        assert text.text == f"one {long} two"

    @pytest.mark.parametrize("suffix", PACKED)
    def test_a_packed_file_that_is_cut_off_or_none_is_refused(self, tmp_path, suffix):
        content = PACKED[suffix](random.Random(0).randbytes(9000).hex().encode())
        for broken in (content[:-500], b"no such thing", content + b"text that was appended", content + content[:-500]):
            (tmp_path / f"a.txt{suffix}").write_bytes(broken)
            with pytest.raises(TaskError, match=rf"a\.txt{suffix}: not a whole {suffix} file \(.*\)\. Copy or"):
                FilesSource(path=str(tmp_path)).read()


class TestTextThatWouldBeLost:
    """What reads as other text than was meant is refused, with its place."""

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32"])
    @pytest.mark.parametrize("text", ["An owl\nand a cat\n", "Сова и кошка, мёд\n", "उल्लू और बिल्ली\n"])
    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.txt.gz"])
    def test_utf_16_and_32(self, tmp_path, encoding, text, name):
        data = text.encode(encoding)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        with pytest.raises(TaskError, match=r"not UTF-8 but UTF-16 or UTF-32\. Save the file as UTF-8|not UTF-8: byte"):
            FilesSource(path=str(tmp_path)).read()

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
    @pytest.mark.parametrize(("name", "before"), [("a.txt", "A line.\n"), ("a.csv", "text\none\n")])
    def test_utf_16_behind_utf_8_and_of_an_odd_length(self, tmp_path, encoding, name, before):
        more = "And one more line.\n".encode(encoding)
        for content in (before.encode() * 9 + more, before.encode() + more[:-1], more + b"\n"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(TaskError, match="not UTF-8 but UTF-16 or UTF-32"):
                FilesSource(path=str(tmp_path)).read()

    def test_utf_16_in_a_list_of_words(self, tmp_path):
        (tmp_path / "words.txt").write_bytes("owl\n\u0441\u043e\u0432\u0430\n".encode("utf-16-le"))
        with pytest.raises(TaskError, match="not UTF-8 but UTF-16"):
            RandomWordsSource(words=str(tmp_path / "words.txt"), samples=1).read()

    @pytest.mark.parametrize("text", ["a\0b", "one\0two\0three\0", "a\nb\nc\nd\n1\n2\n", "\ta\tb\tc", "\0"])
    def test_other_control_characters_are_text(self, tmp_path, text):
        (tmp_path / "a.txt").write_text(text)
        assert FilesSource(path=str(tmp_path)).read()[0].text == text

    @pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
    def test_line_ends_are_kept(self, tmp_path, line_end):
        (tmp_path / "a.txt").write_bytes(f"one{line_end}two{line_end}".encode())
        assert FilesSource(path=str(tmp_path)).read()[0].text == f"one{line_end}two{line_end}"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.jsonl", b'{"text": "one", "text": "two"}', r"line 1 is not usable JSON \(it has 'text' twice\)"),
            ("a.csv", b"text,id,text\none,1,two\n", "several columns are called 'text'"),
            ("a.csv", b"id,text\n1,one, two\n", r"a\.csv#1: found 3 cells, more than the 2 of the header"),
            ("a.csv", b"text\rone\rtwo\r", "is not CSV"),
            ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, .*git lfs"),
            ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
            ("a.txt", "caf\u00e9 au lait".encode("latin-1"), "not UTF-8: byte 3 is 0xe9"),
            ("a.jsonl", b'{"text": "\\udc00\\ud800"}', "half of a surrogate pair"),
        ],
    )
    def test_what_else_is_refused(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TaskError, match=message):
            FilesSource(path=str(tmp_path)).read()

    def test_a_comma_at_the_end_of_a_line_of_csv_is_no_cell(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,text\n1,one,\n")
        assert FilesSource(path=str(tmp_path)).read()[0].text == "one"

    @pytest.mark.parametrize(
        ("column", "message"),
        [
            (pyarrow.array([b"one"]), "'text' is bytes; wanted text"),
            (pyarrow.array([["one"]]), "'text' is list; wanted text"),
            (pyarrow.array([None], pyarrow.string()), "'text' is NoneType; wanted text"),
            (pyarrow.array([1]), "'text' is int; wanted text"),
            (pyarrow.array([b"caf\xe9"]).cast(pyarrow.string(), safe=False), "not a readable Parquet file .*utf-8"),
        ],
        ids=["bytes", "list", "null", "int", "no UTF-8"],
    )
    def test_other_columns_of_parquet_are_refused(self, tmp_path, column, message):
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        with pytest.raises(TaskError, match=message):
            FilesSource(path=str(tmp_path)).read()

    @pytest.mark.parametrize("kind", ["large_string", "dictionary"])
    def test_other_columns_of_text_are_read(self, tmp_path, kind):
        plain = pyarrow.array(TEXTS)
        column = plain.dictionary_encode() if kind == "dictionary" else plain.cast(pyarrow.large_string())
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet")
        assert [text.text for text in FilesSource(path=str(tmp_path)).read()] == TEXTS

    def test_doubled_columns_of_parquet_are_refused(self, tmp_path):
        table = pyarrow.table([["one"], ["two"]], names=["text", "text"])
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(TaskError, match="several columns are called 'text'"):
            FilesSource(path=str(tmp_path)).read()


class TestMoreThanRamHolds:
    """A small file may unpack to gigabytes; it is refused in seconds, here with limits of kilobytes."""

    @pytest.fixture(autouse=True)
    def small_limits(self, monkeypatch):
        for module in ("tasks.texts.text_files", "tasks.texts.files"):
            monkeypatch.setattr(f"{module}.LONGEST_TEXT", 10_000)
            monkeypatch.setattr(f"{module}.MOST_BYTES", 50_000)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.txt.gz", "a" * 10_001, "a text of more than"),
            ("a.txt", "a" * 10_001, "a text of more than"),
            ("a.jsonl.gz", json.dumps({"text": "a" * 10_000}), "a line of more than"),
            ("a.jsonl.gz", '{"text": "a"}\n' * 400, "of texts are asked for, and all are held in RAM"),
            ("a.jsonl.gz", "\n" * 400, "of texts are asked for"),
            ("a.csv.gz", 'text\n"' + "a\n" * 400, "of texts are asked for"),
        ],
    )
    def test_files_of_lines(self, tmp_path, name, content, message):
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        with pytest.raises(TaskError, match=message):
            FilesSource(path=str(tmp_path)).read()

    @pytest.mark.parametrize(("text", "rows"), [("a" * 10_001, 1), ("a" * 1000, 51), ("a", 400)])
    def test_files_of_rows(self, tmp_path, text, rows):
        pyarrow.parquet.write_table(pyarrow.table({"text": [text] * rows}), tmp_path / "a.parquet")
        with pytest.raises(TaskError, match=r"of more than|of texts are asked for"):
            FilesSource(path=str(tmp_path)).read()

    def test_rows_that_share_one_long_value_are_unpacked_one_by_one(self, tmp_path, monkeypatch):
        column = pyarrow.array(["a" * 30_000] * 1000).dictionary_encode()
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "a.parquet", compression="zstd")
        assert (tmp_path / "a.parquet").stat().st_size < 5_000
        sizes: list[int] = []
        batches = pyarrow.parquet.ParquetFile.iter_batches

        def counting(file: pyarrow.parquet.ParquetFile, *arguments: Any, **options: Any) -> Iterator[Any]:
            for batch in batches(file, *arguments, **options):
                sizes.append(batch.num_rows)
                yield batch

        monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", counting)
        with pytest.raises(TaskError, match="a text of more than"):
            FilesSource(path=str(tmp_path)).read()
        assert sizes == [1]

    def test_the_first_samples_of_a_large_file_are_read(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' * 400)
        assert len(FilesSource(path=str(tmp_path), samples=5).read()) == 5

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
    def test_what_never_ends(self, tmp_path, make):
        make(tmp_path / "a.txt")
        with pytest.raises(TaskError, match=r"a folder, pipe or device\. Wanted a file"):
            FilesSource(path=str(tmp_path / "a.txt")).read()
        with pytest.raises(TaskError, match=r"a folder, pipe or device\. Wanted a file"):
            RandomWordsSource(words=str(tmp_path / "a.txt"), samples=1).read()
