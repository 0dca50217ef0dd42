"use strict";
// Asks whether the page has changed, and shows the new one in place of the old, as the reader has left it.
const LOOK_MS = 2000;
const SLOW_MS = 15000; // a wait for figures ends then: a page without them is better than none
const byId = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const until = async (holds, ms) => {
  for (const end = performance.now() + ms; !holds() && performance.now() < end; ) await wait(50);
};

let [shown, built, isHeld] = [null, undefined, false];
byId("hold").addEventListener("click", () => {
  isHeld = !isHeld;
  byId("hold").setAttribute("aria-pressed", isHeld);
});
const tell = (kind, words, seconds) => {
  byId("strip").className = `strip ${kind}`;
  // Only what is new: a reader of screens says it aloud.
  if (byId("summary").textContent !== words) byId("summary").textContent = words;
  byId("built").textContent = seconds ? `as of ${new Date(1000 * seconds).toLocaleTimeString()}` : "";
};

// The place in the page: the last part with a name that begins above the window's top, and how far above.
const placeOf = (page) => {
  const parts = [...page.querySelectorAll("section[id], figure[id]")];
  const [part] = parts.filter((one) => one.getBoundingClientRect().top <= 0).slice(-1);
  return { part: part?.id, above: part?.getBoundingClientRect().top, y: page.defaultView.scrollY };
};
const goTo = (page, { part, above, y }) => {
  const found = part && page.getElementById(part);
  const { scrollY } = page.defaultView;
  page.defaultView.scrollTo({ top: found ? scrollY + found.getBoundingClientRect().top - above : y, behavior: "instant" });
};
const boxesOf = (page) => [...page.querySelectorAll(".scroll, .within, dialog, .tokens")];
const keyOf = (box, i) => box.id || `${box.closest("figure, section")?.id} ${box.className} ${box.closest("figure") ? "" : i}`;
const kept = (page) => {
  const sorted = page.querySelector("th[aria-sort]");
  const focused = page.activeElement?.id;
  return {
    filter: page.getElementById("filter")?.value,
    sorted: sorted && [sorted.textContent, sorted.getAttribute("aria-sort")],
    opened: page.querySelector("dialog[open]")?.dataset.search,
    checked: [...page.querySelectorAll("input:checked")].map((input) => `${input.name}=${input.value}`),
    boxes: new Map(boxesOf(page).map((box, i) => [keyOf(box, i), [box.scrollLeft, box.scrollTop]])),
    focused,
    caret: focused === "filter" ? page.activeElement.selectionStart : null,
  };
};
const restore = async (page, before) => {
  const filter = page.getElementById("filter");
  if (filter && before.filter) {
    filter.value = before.filter;
    filter.dispatchEvent(new Event("input"));
  }
  if (before.sorted) {
    const head = [...page.querySelectorAll("th")].find((one) => one.textContent === before.sorted[0] && one.querySelector("button"));
    for (let i = 0; i < 2 && head && head.getAttribute("aria-sort") !== before.sorted[1]; i++) head.querySelector("button").click();
  }
  if (before.opened) {
    page.querySelector(`button.open[data-search="${CSS.escape(before.opened)}"]`)?.click();
    await until(() => page.querySelector("dialog[open] .tokens")?.hasChildNodes(), 3000);
  }
  for (const input of page.querySelectorAll("input[type=checkbox], input[type=radio]")) {
    const was = before.checked.includes(`${input.name}=${input.value}`);
    if (input.checked !== was && (was || input.type === "checkbox")) input.click();
  }
  boxesOf(page).forEach((box, i) => box.scrollTo(...(before.boxes.get(keyOf(box, i)) ?? [0, 0])));
};
// Figures that the reader will see at once.
const areDrawn = (page) =>
  [...page.querySelectorAll(".plot")].every((plot) => {
    const { top, bottom } = plot.getBoundingClientRect();
    return bottom < 0 || top > page.defaultView.innerHeight || plot.querySelector(".main-svg");
  });
const load = async () => {
  const frame = document.createElement("iframe");
  frame.className = "coming";
  frame.title = "The page";
  frame.src = `page${location.search}`;
  const loaded = new Promise((done) => (frame.onload = done));
  byId("frames").append(frame);
  await loaded;
  const page = frame.contentDocument;
  if (!page?.querySelector("h1")) {
    frame.remove();
    throw new Error("the page did not arrive");
  }
  const old = shown?.contentDocument;
  if (old) {
    await restore(page, kept(old));
    goTo(page, placeOf(old));
    await until(() => areDrawn(page), SLOW_MS);
    goTo(page, placeOf(old)); // the reader may have scrolled on
  }
  document.title = page.title;
  frame.className = "";
  const focused = old && kept(old);
  const isInside = [null, shown, document.body].includes(document.activeElement);
  shown?.remove();
  shown = frame;
  if (!isInside) return;
  frame.contentWindow.focus();
  if (focused?.focused) page.getElementById(focused.focused)?.focus({ preventScroll: true });
  if (focused?.caret != null) page.getElementById("filter")?.setSelectionRange(focused.caret, focused.caret);
};
// A page that goes away under a selection would take it along.
const isBusy = () => isHeld || shown?.contentDocument?.getSelection()?.isCollapsed === false;

const look = async () => {
  const answer = await fetch(`state${location.search}`);
  if (!answer.ok) return tell("trouble", `The server refuses: ${await answer.text()}`);
  const state = await answer.json();
  if (state.built !== built && !(built && isBusy())) {
    await load();
    built = state.built;
  }
  tell(state.trouble ? "trouble" : "live", state.trouble ?? state.summary, state.built);
};
const follow = async () => {
  for (;;) {
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    const began = performance.now();
    await look().catch((error) => tell("trouble", `The server does not answer (${error.message}): start \`capsweep watch\` again.`));
    // Over a slow line, pages must not fill it.
    await wait(Math.max(LOOK_MS, performance.now() - began));
  }
};
follow();
