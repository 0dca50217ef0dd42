"use strict";
const plots = [...document.querySelectorAll(".plot")];
const config = { responsive: true, displayModeBar: false };
// A mouse draws a rectangle to zoom, a double click goes back; a finger must still scroll the page.
const dragmode = matchMedia("(pointer: fine)").matches ? "zoom" : false;

// Large data lies in the page as gzip in base64.
const unpacked = async (id) => {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const described = (plot) => JSON.parse(plot.closest("figure").querySelector("script").textContent);

const NARROW_PIXELS = 420;
const LEGEND_LINE_PIXELS = 20;
const [drawn, heights] = [new Set(), new Map()];
const draw = (plot) => {
  if (drawn.has(plot)) return;
  drawn.add(plot);
  const { data, layout } = described(plot);
  // A narrow legend has one entry per line, which must not take height from the plot.
  if (plot.clientWidth < NARROW_PIXELS) {
    layout.height += LEGEND_LINE_PIXELS * Math.ceil(data.filter((trace) => trace.showlegend).length / 2);
  }
  heights.set(plot, layout.height);
  Plotly.newPlot(plot, data, { ...layout, dragmode }, config);
};
// Figures are as wide as their column on the screen; paper is narrower.
const [PAPER_PIXELS, LOWER] = [660, 0.8];
// A legend's place is a share of the plot, which is lowered more than the whole figure: this keeps it off what is below.
const HIGHER = 2;
const legendOf = (plot, times) => 1 + times * (described(plot).layout.legend.y - 1);
if (plots.length) {
  // A browser that prints or captures a page waits for its load event, which waits for images: so ask for one after
  // another until the first figures are drawn.
  let begun = false;
  const waiting = (asked) => {
    const image = new Image();
    image.onload = image.onerror = () => begun || asked > 5000 || waiting(asked + 1);
    image.src = `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><!--${asked}--></svg>`;
  };
  waiting(0);
  unpacked("plotly").then((code) => {
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    // A figure is drawn when it is about to become visible, the others one after another: fifteen at once would hold
    // the page up. So a page that is captured whole has them all.
    const seen = new IntersectionObserver(
      (entries) => {
        entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target));
        begun = true;
      },
      { rootMargin: "800px" },
    );
    plots.forEach((plot) => seen.observe(plot));
    const drawNext = () => {
      const plot = plots.find((other) => !drawn.has(other));
      if (plot) draw(plot);
      if (plot) setTimeout(drawNext, 100);
      else document.documentElement.dataset.drawn = drawn.size;
    };
    setTimeout(drawNext, 300);
    // Lower, too, so that two fit on a sheet.
    addEventListener("beforeprint", () => {
      plots.forEach(draw);
      plots.forEach((plot) =>
        Plotly.relayout(plot, {
          width: PAPER_PIXELS,
          height: LOWER * heights.get(plot),
          "legend.y": legendOf(plot, HIGHER),
        }),
      );
    });
    addEventListener("afterprint", () =>
      plots.forEach((plot) =>
        Plotly.relayout(plot, {
          width: null,
          height: heights.get(plot),
          autosize: true,
          "legend.y": legendOf(plot, 1),
        }),
      ),
    );
  });
}

// A figure's data, one line per point.
const plainText = (html) => new DOMParser().parseFromString(String(html).replaceAll("<br>", "; "), "text/html").body.textContent;
const csvCell = (value) => {
  // A spreadsheet reads a cell that begins with one of these as a formula.
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r\n＝＋－＠]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
// "x" or "x2" -> the axis of that id; panels share the title of the lowest one.
const axisOf = (layout, id, letter) => layout[`${letter}axis${(id ?? letter).slice(1)}`] ?? {};
const titleOf = (layout, letter) => {
  const axes = Object.keys(layout).filter((key) => key.startsWith(`${letter}axis`));
  return plainText(axes.map((key) => layout[key].title?.text).find(Boolean) || letter);
};
// The axis's label for a value: of an axis with words at its ticks, the word nearest to the value.
const valueOf = (axis, value) => {
  if (!axis.ticktext || typeof value !== "number") return typeof value === "string" ? plainText(value) : value;
  const distances = axis.tickvals.map((place) => Math.abs(place - value));
  return plainText(axis.ticktext[distances.indexOf(Math.min(...distances))]);
};
const boundsOf = (error, value, i) => {
  if (!error?.array || typeof value !== "number") return [undefined, undefined];
  return [value - (error.arrayminus ?? error.array)[i], value + error.array[i]].map((bound) => Number(bound.toFixed(6)));
};
const csvOf = ({ data, layout }) => {
  const [across, up] = [titleOf(layout, "x"), titleOf(layout, "y")];
  const lines = [["series", across, `${across} low`, `${across} high`, up, `${up} low`, `${up} high`, "colour", "label"]];
  for (const trace of data) {
    const at = (list, i) => (Array.isArray(list) ? list[i] : undefined);
    const [xaxis, yaxis] = [axisOf(layout, trace.xaxis, "x"), axisOf(layout, trace.yaxis, "y")];
    (trace.x ?? []).forEach((x, i) => {
      if (x === null) return;
      const [y, label] = [at(trace.y, i), at(trace.text, i)];
      const [horizontal, vertical] = [boundsOf(trace.error_x, x, i), boundsOf(trace.error_y, y, i)];
      const point = [valueOf(xaxis, x), ...horizontal, valueOf(yaxis, y), ...vertical];
      lines.push([plainText(trace.name ?? ""), ...point, at(trace.marker?.color, i), label && plainText(label)]);
    });
  }
  // An axis of words has no bounds, so their columns are left out.
  const kept = lines[0].map((head, i) => !/ (low|high)$/.test(head) || lines.slice(1).some((line) => line[i] !== undefined));
  return lines.map((line) => line.filter((_, i) => kept[i]).map(csvCell).join(",")).join("\n") + "\n";
};
const saved = (name, url) => {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
};
// An image is that of a single card, on white, as wide as it is on the screen.
const imageOf = (plot, format) => {
  const { data, layout } = described(plot);
  const white = { ...layout, paper_bgcolor: "white", plot_bgcolor: "white", width: plot.clientWidth, margin: { l: 16, r: 16, t: 16, b: 16 } };
  return Plotly.toImage({ data, layout: white }, { format, width: plot.clientWidth, height: layout.height, scale: format === "png" ? 3 : 1 });
};
document.querySelectorAll("button.download").forEach((button) =>
  button.addEventListener("click", async () => {
    const plot = button.closest("figure").querySelector(".plot");
    const { kind, name } = button.dataset;
    if (kind !== "csv") return saved(`${name}.${kind}`, await imageOf(plot, kind));
    const url = URL.createObjectURL(new Blob([csvOf(described(plot))], { type: "text/csv" }));
    saved(`${name}.csv`, url);
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }),
);

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

// One search, opened.
const dialog = document.getElementById("opened");
let details;
const byId = (id) => document.getElementById(id);
const element = (name, text, attributes = {}) => {
  const made = document.createElement(name);
  made.textContent = text;
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
};
const svg = (name, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.textContent = text;
  return made;
};
const SCALES = {
  nats_with_memory: ["plain: certain, red: 4 nats and more", (value) => `rgba(214, 69, 48, ${Math.min(0.75, value / 5.3)})`],
  nats_without_memory: ["plain: certain, red: 4 nats and more", (value) => `rgba(214, 69, 48, ${Math.min(0.75, value / 5.3)})`],
  margins: ["the bluer, the smaller the margin to the second token", (value) => `rgba(46, 118, 196, ${0.75 / (1 + Math.max(0, value))})`],
};
const showTokens = (search) => {
  const which = document.querySelector("input[name=colouring]:checked").value;
  const [legend, colour] = SCALES[which];
  byId("opened-scale").textContent = legend;
  const number = (list, i, unit) => (list[i] === undefined ? "" : `, ${list[i]} ${unit}`);
  byId("opened-tokens").replaceChildren(
    ...search.pieces.map((piece, i) => {
      const inside = i < search.capacity;
      const shown = piece.replaceAll("\r", "").replaceAll("\n", "↵\n") || "·";
      const token = element("span", shown, { class: inside ? "token" : "token beyond" });
      if (i === search.capacity) token.classList.add("boundary");
      if (inside && search[which][i] !== undefined) token.style.backgroundColor = colour(search[which][i]);
      const facts = number(search.nats_with_memory, i, "nats with memory") + number(search.nats_without_memory, i, "without memory");
      token.title = `token ${i + 1}${facts}${number(search.margins, i, "margin")}`;
      return token;
    }),
  );
};
const showProbes = (search) => {
  const longest = Math.max(1, ...search.probes.flatMap((p) => [p.length, p.proven, p.failed ?? 0]));
  // As wide as the dialog, so that its letters are as large as the page's.
  const [left, right, line, width] = [135, 16, 24, byId("opened-probes").clientWidth || 760];
  const height = line * search.probes.length + 34;
  const at = (length) => left + ((width - left - right) * length) / longest;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "probes" });
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((s) => longest / s <= 10) ?? 2000;
  for (let length = 0; length <= longest; length += step) {
    chart.append(svg("line", { x1: at(length), x2: at(length), y1: 4, y2: height - 26, class: "grid" }));
    chart.append(svg("text", { x: at(length), y: height - 10, "text-anchor": "middle" }, String(length)));
  }
  search.probes.forEach((probe, i) => {
    const y = line * i + 16;
    const label = `${i + 1}. ${probe.start}, ${probe.outcome}`;
    chart.append(svg("text", { x: 0, y: y + 4 }, label));
    chart.append(svg("line", { x1: at(0), x2: at(probe.proven), y1: y, y2: y, class: "proven" }));
    chart.append(svg("circle", { cx: at(probe.length), cy: y, r: 4, class: "asked" }));
    if (probe.failed) chart.append(svg("path", { d: `M${at(probe.failed) - 4} ${y - 4}l8 8m0 -8l-8 8`, class: "failed" }));
    const facts = `asked ${probe.length}, proven ${probe.proven}${probe.failed ? `, gave up on ${probe.failed}` : ""}`;
    const row = svg("rect", { x: 0, y: y - 12, width, height: line, fill: "transparent" });
    row.append(svg("title", {}, `${facts}; ${probe.steps ?? 0} steps${probe.reason ? `; ${probe.reason}` : ""}`));
    chart.append(row);
  });
  const key = element("p", "Bar: proven. Circle: the length asked for. Cross: the length given up on. Axis in tokens.", { class: "note" });
  byId("opened-probes").replaceChildren(chart, key);
};
const open = async (button) => {
  details ??= JSON.parse(await unpacked("details"));
  const cells = [...button.closest("tr").cells].map((cell) => cell.textContent.trim());
  const heads = [...document.querySelectorAll("table.sortable thead th")].map((head) => head.textContent.trim());
  const search = { ...details[Number(button.dataset.index)] };
  search.capacity = Number((cells[heads.indexOf("tokens")] || "0").replaceAll(",", ""));
  byId("opened-title").textContent = cells[0];
  byId("opened-facts").textContent = heads
    .map((head, i) => (i > 0 && i < heads.length - 1 && cells[i] ? `${head} ${cells[i]}` : ""))
    .filter(Boolean)
    .concat(search.id)
    .join(" · ");
  dialog.dataset.search = search.id; // a page that follows this one opens it again
  if (!dialog.open) dialog.showModal();
  showTokens(search);
  showProbes(search);
  document.querySelectorAll("input[name=colouring]").forEach((input) => (input.onchange = () => showTokens(search)));
};
document.querySelectorAll("button.open").forEach((button) => button.addEventListener("click", () => open(button)));
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.documentElement.dataset.ready = Math.round(performance.now());
