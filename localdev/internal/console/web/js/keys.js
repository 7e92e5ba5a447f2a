// Results: the keys with their last windows, and a chart of the one that is chosen.
import { Chart, drawSpark, spark } from "./charts.js";
import { attr, each, h, id, options, show, text } from "./dom.js";
import { exact, integer, moment, short } from "./format.js";

const page = 50, most = 200, refetch = 900;

let sources = [], chosen = null, limit = page, chart = null, series = null, busy = false, again = false, timer = 0, asked = 0;

export function begin() {
  chart = new Chart(id("chart"), id("chart-detail"));
  chart.onGo = numbers;
  for (const name of ["source", "value", "sort"]) {
    id(name).addEventListener("change", () => {
      if (name === "source") {
        chosen = null;
        values();
      }
      limit = page;
      load();
    });
  }
  id("search").addEventListener("input", () => {
    limit = page;
    load();
  });
  id("key-form").addEventListener("submit", (e) => e.preventDefault());
  id("more-keys").addEventListener("click", () => {
    limit = Math.min(most, limit + page);
    load();
  });
  id("key-rows").addEventListener("click", (e) => {
    const button = e.target.closest("button");
    if (button) choose(button.dataset.key);
  });
  id("key-rows").addEventListener("keydown", (e) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[e.key];
    const to = step && e.target.closest("tr")?.[step]?.querySelector("button");
    if (!to) return;
    e.preventDefault();
    to.focus();
  });
}

const current = () => sources[Number(id("source").value) || 0];

function values() {
  const at = current();
  options(id("value"), (at ? at.values : []).map((v) => ({ value: v, text: v })));
}

// draw takes what there is to look at, after results have come.
export function draw(results) {
  sources = results.sources;
  options(id("source"), sources.map((v, i) => ({ value: String(i), text: (sources.some((o) => o.pipeline !== v.pipeline) ? v.pipeline + " / " : "") + v.window })));
  values();
  // What came in the last second is asked for once.
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    load();
  }, Math.max(0, asked + refetch - Date.now()));
}

// load asks for the page of keys, and for the one that is chosen.
async function load() {
  if (busy) {
    again = true;
    return;
  }
  const at = current();
  if (!at) return;
  busy = true;
  asked = Date.now();
  try {
    const about = { pipeline: at.pipeline, window: at.window };
    const query = new URLSearchParams({ ...about, value: id("value").value, q: id("search").value, sort: id("sort").value, limit });
    const answer = await (await fetch("api/keys?" + query)).json();
    if (chosen === null && answer.keys.length) chosen = answer.keys[0].key;
    list(answer, at);
    if (chosen !== null) {
      series = await (await fetch("api/series?" + new URLSearchParams({ ...about, key: chosen }))).json();
      line(answer.value);
    } else {
      series = null;
      line("");
    }
  } catch { /* the stream says that the console is gone */ }
  busy = false;
  if (again) {
    again = false;
    load();
  }
}

function choose(key) {
  chosen = key;
  for (const b of id("key-rows").querySelectorAll("button")) attr(b, "aria-pressed", b.dataset.key === key);
  load();
}

function list(answer, at) {
  text(id("value-name"), answer.value || "Value");
  text(id("key-count"), at.keys ? `${integer(answer.total)} ${answer.total === 1 ? "key" : "keys"}${answer.total < at.keys ? ` of ${integer(at.keys)}` : ""}` : "");
  show(id("key-empty"), answer.keys.length === 0);
  text(id("key-empty"), at.keys ? "No key has this text." : "No result yet: a window fires when the watermark has passed its end.");
  each(id("key-rows"), answer.keys, (k) => k.key, (k) => {
    const button = h("button", { type: "button", class: "key" });
    button.dataset.key = k.key;
    button.append(...named(k.key));
    return h("tr", {}, h("th", { scope: "row" }, button), h("td", { class: "n" }), h("td", { class: "line" }, spark()));
  }, (row, k) => {
    attr(row.cells[0].firstChild, "aria-pressed", k.key === chosen);
    text(row.cells[1], short(k.latest) + (k.late ? " \u25c6" : ""));
    attr(row.cells[1], "title", exact(k.latest) + (k.late ? ", corrected by late records" : ""));
    drawSpark(row.cells[2].firstChild, k.spark, false);
  });
  show(id("more-keys"), answer.total > answer.keys.length && limit < most);
  if (answer.total > answer.keys.length && limit >= most) text(id("key-count"), id("key-count").textContent + `, the first ${integer(most)} are listed: find the others by name`);
}

// named writes a grouping key so that its values stand out: service=chat::model=small.
function named(key) {
  const parts = key === "" ? ["(all records)"] : key.split("::");
  return parts.flatMap((part, i) => {
    const at = part.indexOf("=");
    const out = i ? [h("span", { class: "sep" }, "::")] : [];
    if (at > 0) out.push(h("span", { class: "field" }, decode(part.slice(0, at)) + "="), h("span", {}, decode(part.slice(at + 1))));
    else out.push(h("span", {}, decode(part)));
    return out;
  });
}

const decode = (v) => v.replace(/%(25|3A|3D)/g, (all) => ({ "%25": "%", "%3A": ":", "%3D": "=" })[all]);

function line(value) {
  show(id("chart-figure"), chosen !== null);
  text(id("chart-title"), chosen === null || !series ? "Choose a key" : "");
  if (chosen !== null) id("chart-title").replaceChildren(h("span", { class: "what" }, value), " of ", ...named(chosen));
  const at = series ? series.values.indexOf(value) : -1;
  chart.set(value, at < 0 ? [] : series.points.map((p) => ({ start: p.start_ms, end: p.end_ms, late: p.late, value: p.numbers[at], numbers: p.numbers })));
}

// numbers lists all values of the window at the cursor, or of the newest.
function numbers(point) {
  each(id("numbers"), point && series ? series.values.map((name, i) => ({ name, value: point.numbers[i] })) : [], (v) => v.name,
    (v) => h("div", {}, h("dt", {}, v.name), h("dd", {})), (node, v) => {
      text(node.lastChild, short(v.value));
      attr(node.lastChild, "title", exact(v.value));
    });
  attr(id("chart"), "aria-label", point ? `Chart of ${id("chart-title").textContent}. ${series.points.length} windows; the newest to ${moment(series.points[series.points.length - 1].end_ms, point.end)}. Left and right go from window to window.` : "Chart of the chosen key: nothing to draw yet");
}
