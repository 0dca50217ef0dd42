"""Tables for a paper: words stay words, numbers stand to the right, the short one fits a column."""

import re

from orchestrator.report.export import Exported, exported_tables, latex, markdown

TABLE = Exported(
    label="a",
    caption="50 % of it",
    columns=("a|b", "c", "d_e"),
    rows=(("x & y_1\n{~}", 1.25, "≥ 3.0 ± 1.5"), (None, 1234.5, None)),
)


def test_what_is_text_stays_text_in_markdown():
    head, line, first, *_, caption = markdown(TABLE).splitlines()
    assert [cell.strip() for cell in head.split(" | ")] == [r"| a\|b", "c", "d_e |"]
    assert [cell[:1] + cell[-1:] for cell in line.strip("|").split("|")] == [":-", "-:", "-:"]
    assert [cell.strip("| ") for cell in first.split(" | ")] == ["x & y_1 {~}", "1.25", "≥ 3.0 ± 1.5"]
    assert caption == TABLE.caption


def test_what_is_text_stays_text_in_latex():
    written = latex(TABLE)
    assert r"x \& y\_1 \{\textasciitilde \} & 1.25 & $\ge$ 3.0 $\pm$ 1.5 \\" in written
    assert r"a|b & c & d\_e \\" in written
    for words in (
        r"\caption{50 \% of it}",
        r"\label{tab:a}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"\begin{table}[t]",
    ):
        assert words in written, words


def test_the_table_for_a_paper_is_narrow(generated):
    table = exported_tables(generated(36, 36))["paper"]
    assert table.columns == ("model", "source", "k", "texts", "tokens", "bits", "bits/dimension", "token gain")
    assert table.rows[0][:3] == ("large", "books", 1)
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", table.rows[0][4])
    assert re.fullmatch(r"\d\.\d\d ± \d\.\d\d", table.rows[0][6])
    assert r"\label{tab:capacity}" in latex(table)
