"use strict";
const plots = [...document.querySelectorAll(".plot")];
const config = { responsive: true, displayModeBar: false };
// A mouse draws a rectangle to zoom, a double click goes back; a finger must go on scrolling the page.
const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;

for (const plot of plots) {
  const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
  Plotly.newPlot(plot, data, { ...layout, dragmode }, config);
}
// Figures are as wide as the screen's column; paper is narrower.
const PAPER_PIXELS = 660;
addEventListener("beforeprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: PAPER_PIXELS })));
addEventListener("afterprint", () => plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));

const table = document.querySelector("table.sortable");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];

  const value = (row, column, kind) => {
    const text = row.cells[column].textContent.trim();
    return kind === "number" ? (text === "" ? NaN : Number(text.replaceAll(",", ""))) : text.toLowerCase();
  };
  // Cells without a number stay at the end, whichever way the column is sorted.
  const compare = (a, b, sign) => {
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  };
  headers.forEach((header, column) => {
    const { kind } = header.firstElementChild.dataset;
    header.firstElementChild.addEventListener("click", () => {
      // Numbers begin with the largest, words with A.
      const first = kind === "number" ? "descending" : "ascending";
      const second = kind === "number" ? "ascending" : "descending";
      const order = header.getAttribute("aria-sort") === first ? second : first;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = rows.map((row) => [value(row, column, kind), row]);
      keyed.sort(([a], [b]) => compare(a, b, sign));
      body.append(...keyed.map(([, row]) => row));
    });
  });

  const filter = document.getElementById("filter");
  const shown = document.querySelector("output[for=filter]");
  const haystack = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => haystack.get(row).includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${rows.length}`;
  });
}
