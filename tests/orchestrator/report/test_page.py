"""One page: complete, self-contained, and literal about what the data contain."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.report.figures.canvas import ReportTables
from orchestrator.report.page import render_page
from orchestrator.store.probe_columns import PROBES
from orchestrator.store.schema import SAMPLES, SEARCHES

HOSTILE = "<script>alert(1)</script></script><!-- & <b>bold</b> {{ 7 * 7 }}"


def run(
    *, text: str = "Once upon a time", source: str = "files:a.txt", model: str = "models/tiny"
) -> dict[str, pa.Table]:
    """Two searches of one model, three probes."""
    samples = [
        {"sample_id": sample, "model": model, "source": source, "text": text, "token_ends": [len(text) // 2, len(text)]}
        for sample in ("a", "b")
    ]
    shared = {"model": model, "source": source, "num_vectors": 1, "seed": 0}
    question = {"criterion": "exact", "decode_from": "memory"}
    searches = [
        {"search_id": "s1", "sample_id": "a", "capacity_tokens": 2, "capacity_bits": 11.25, "status": "at_text_end"},
        {"search_id": "s2", "sample_id": "b", "capacity_tokens": 1, "capacity_bits": 5.0, "status": "measured"},
    ]
    measured = {
        "steps": 100,
        "steps_to_proof": 60,
        "nats_without_memory": 8.0,
        "nats_with_memory": 0.5,
        "measured_length": 2,
    }
    probes = [
        {"search_id": "s1", "number": 0, "outcome": "lossless", "proven_length": 2, **measured},
        {"search_id": "s2", "number": 0, "outcome": "lossless", "proven_length": 1, "failed_length": 2, **measured},
        {"search_id": "s2", "number": 1, "outcome": "lossy", "proven_length": 0, "failed_length": 2, **measured},
    ]
    return {
        "probes": pa.Table.from_pylist([{**shared, **question, **row} for row in probes], schema=PROBES),
        "searches": pa.Table.from_pylist(
            [{**shared, **question, "steps": 1234, "probes": 2, "margin": 0.25, **row} for row in searches],
            schema=SEARCHES,
        ),
        "samples": pa.Table.from_pylist(samples, schema=SAMPLES),
    }


def page(tables: dict[str, pa.Table], *, sweep_yaml: str = "name: my-sweep\n", **provenance: Any) -> str:
    return render_page(ReportTables(**tables), sweep_yaml=sweep_yaml, provenance=provenance)


@pytest.fixture(scope="module")
def plain_html() -> str:
    return page(run(), python="3.11", git="abc123", hardware={"cores": 2})


@pytest.fixture(scope="module")
def plain(plain_html: str, read: Callable[[str], Any]) -> Any:
    return read(plain_html)


class TestContent:
    def test_the_numbers_of_the_summary_appear(self, plain):
        # Mean of 2 and 1 tokens, of 11.25 and 5 bits; one text ended first, so both are lower bounds.
        for words in ("≥ 1.5", "≥ 8.1", "1,234", "at least 1.5 tokens", "text ended"):
            assert words in plain.text, words

    def test_the_headings_and_the_texts_appear(self, plain):
        for words in ("my-sweep", "Capacity by group", "Worth knowing", "Provenance", "Once upon a time", "Once upo"):
            assert words in plain.text, words

    def test_every_figure_has_a_title_axes_and_a_count(self, plain):
        captions = re.findall(r"n = \d+ [a-z ]+[.,]", plain.text)
        figures = plain.figures()
        assert len(figures) == len(captions) == 6
        for figure in figures:
            assert figure["layout"]["xaxis"]["title"]["text"]
        assert figures[0]["data"][1]["x"] == [1.5]

    def test_a_long_text_is_cut_and_its_line_breaks_shown(self, read):
        text = read(page(run(text="One.\nTwo. " + "x" * 200))).text
        assert "One.↵Two. " + "x" * 69 + "…" in text
        assert "x" * 70 not in text

    def test_every_entry_of_the_contents_leads_to_a_section_or_figure(self, plain):
        ids = [attributes["id"] for _, attributes in plain.tags if "id" in attributes]
        targets = [(attributes["href"] or "")[1:] for tag, attributes in plain.tags if tag == "a"]
        sections = [attributes["id"] for tag, attributes in plain.tags if tag in ("section", "figure")]
        assert sorted(targets) == sorted(sections)
        assert len(ids) == len(set(ids))

    def test_every_figure_can_be_downloaded_under_a_name_of_its_own(self, plain):
        buttons = [one for tag, one in plain.tags if tag == "button" and one.get("class") == "download"]
        names = [f"{one['data-name']}.{one['data-kind']}" for one in buttons]
        assert len(names) == len(set(names)) == 3 * len(plain.figures())
        assert "my-sweep-capacity-per-model.svg" in names

    def test_provenance_is_shown_nested_values_too(self, plain):
        assert "abc123" in plain.text
        assert '"cores": 2' in plain.text

    def test_worth_knowing_is_left_out_where_nothing_is(self, read):
        tables = run()
        tables["searches"] = tables["searches"].slice(1)
        tables["probes"] = tables["probes"].slice(1)
        assert "Worth knowing" not in read(page(tables)).text


class TestEscaping:
    @pytest.fixture(scope="class")
    def hostile(self, read: Callable[[str], Any]) -> Any:
        tables = run(text=HOSTILE, source=f"files:{HOSTILE}", model=f"models {HOSTILE}")
        return read(page(tables, sweep_yaml=f"name: {HOSTILE}\n", **{HOSTILE: HOSTILE}))

    def test_it_makes_no_element(self, hostile, plain):
        def kinds(elements) -> set[str]:
            return {tag for tag, _ in elements.tags}

        assert len(hostile.scripts) == len(plain.scripts)
        assert kinds(hostile) == kinds(plain)
        assert "b" not in kinds(hostile)

    def test_it_shows_as_text(self, hostile):
        # Title, heading, headline, group, searches, sweep file, provenance.
        assert hostile.text.count(HOSTILE) >= 7
        assert "{{ 7 * 7 }}" in hostile.text

    def test_no_script_but_ours_runs(self, hostile):
        assert all("alert(1)" not in script for script in hostile.scripts if not script.startswith('{"data"'))

    def test_no_text_can_end_the_element_of_a_figure(self, hostile):
        embedded = [script for script in hostile.scripts if script.startswith('{"data"')]
        assert len(embedded) == 6
        assert all("<" not in script for script in embedded)

    def test_plotly_shows_it_as_text(self, hostile):
        # Plotly takes tags in its texts for markup: none may be left but the line breaks that are ours.
        strings = [text for figure in hostile.figures() for text in strings_in(figure)]
        assert any("alert(1)" in unescape(text) for text in strings)
        for text in strings:
            assert set(re.findall(r"<[^>]*>", text)) <= {"<br>", "<extra></extra>", "<extra>", "</extra>"}, text


def strings_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in strings_in(child)]


class TestSelfContained:
    def test_no_element_loads_anything(self, plain):
        for tag, attributes in plain.tags:
            assert tag not in ("link", "iframe", "object", "embed", "base"), tag
            assert not {"src", "srcset", "data", "poster", "action"} & attributes.keys(), (tag, attributes)
            assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)

    def test_the_style_loads_nothing(self, plain_html):
        style = re.search(r"<style>(.*?)</style>", plain_html, re.DOTALL)
        assert style is not None
        assert "url(" not in style[1]
        assert "@import" not in style[1]

    def test_a_policy_forbids_the_browser_to_fetch(self, plain):
        equivalents = {one.get("http-equiv"): one.get("content") or "" for tag, one in plain.tags if tag == "meta"}
        policy = equivalents["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "http" not in policy

    def test_it_is_small_enough_to_send(self, plain_html):
        assert len(plain_html.encode()) < 8_000_000


class TestEmptiness:
    def test_no_rows_at_all(self, read):
        elements = read(page({name: table.schema.empty_table() for name, table in run().items()}))
        assert "This run has no searches yet." in elements.text
        assert elements.figures() == []

    def test_searches_that_wait_for_their_first_probe(self, read):
        tables = run()
        tables["probes"] = PROBES.empty_table()
        waiting = [
            {**row, "status": "open", "capacity_tokens": None, "capacity_bits": None, "margin": None}
            for row in tables["searches"].to_pylist()
        ]
        tables["searches"] = pa.Table.from_pylist(waiting, schema=SEARCHES)
        elements = read(page(tables))
        assert "No search has finished" in elements.text
        assert "2 searches are open" in elements.text

    def test_probes_of_searches_that_are_not_finished(self, read):
        tables = run()
        tables["searches"] = pa.Table.from_pylist(
            [{**row, "status": "open"} for row in tables["searches"].to_pylist()], schema=SEARCHES
        )
        assert len(read(page(tables)).figures()) == 4

    def test_no_samples(self, read):
        tables = run()
        tables["samples"] = SAMPLES.empty_table()
        assert "≥ 1.5" in read(page(tables)).text
