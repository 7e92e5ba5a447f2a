// What needs attention, why windows have not fired, and the figures.
import { attr, each, h, id, show, text } from "./dom.js";
import { drawSpark, spark } from "./charts.js";
import { date, clock, integer, moment, parse, plural, short, span, took } from "./format.js";
import { next } from "./windows.js";
import { fires } from "./timeline.js";

const marks = { halted: "Halted", blocked: "Blocked", stuck: "Stuck", error: "Error", unreachable: "Out of reach" };

export function troubles(list) {
  show(id("troubles"), list.length > 0);
  each(id("trouble-list"), list, (t) => t.kind + t.where + t.what.replace(/\d/g, ""), () => h("li", {}, h("strong", {}), h("span", { class: "where" }), h("p", {}), h("p", { class: "do" })), (li, t) => {
    const [kind, where, what, todo] = li.children;
    attr(li, "data-kind", t.kind);
    text(kind, marks[t.kind] || t.kind);
    text(where, t.where);
    text(what, t.what);
    text(todo, t.do ? "What to do: " + t.do + "." : "");
  });
}

// card makes the node of a pipeline.
function card() {
  const node = h("article", { class: "pipeline" },
    h("header", {}, h("h3", {}), h("span", { class: "plan" })),
    h("div", { class: "mark" }, h("span", { class: "label" }, "Watermark"), h("span", { class: "w" }), h("span", { class: "behind" })),
    h("p", { class: "holding" }),
    h("div", { class: "next" }, h("p", {}), h("div", { class: "gauge", role: "img" }, h("span", {}))),
    h("details", {}, h("summary", {}, "All that explain says"), h("ul", {})));
  return node;
}

// pipelines draws a card for each. status has them in any case, explain what it has found out.
export function pipelines(status, explain) {
  const known = new Map(explain.pipelines.map((p) => [p.pipeline, p]));
  const now = Date.now();
  const place = id("pipelines");
  place.querySelector("[data-empty]")?.remove();
  each(place, status.pipelines, (p) => p.name, card, (node, p) => {
    const x = known.get(p.name);
    const [head, mark, holding, coming, details] = node.children;
    text(head.children[0], p.name);
    const w = x ? parse(x.watermark) : p.watermark_ms;
    const planAt = x ? parse(x.plan_at) : null;
    const plan = x ? x.plan : p.plan;
    text(head.children[1], plan ? `plan ${integer(plan)}${planAt ? `, ${span(Math.max(0, now - planAt))} ago` : ""}` : "no plan yet");
    text(mark.children[1], w === null ? "none yet" : clock(w, true));
    attr(mark.children[1], "title", w === null ? null : new Date(w).toISOString());
    text(mark.children[2], w === null ? "no plan has moved it" : `${date(w)}, ${w > now ? span(w - now) + " ahead of the clock" : span(now - w) + " behind the clock"}`);
    text(holding, x ? sentence(x) : p.held_by ? "held by " + p.held_by : "Not looked at yet.");
    attr(node, "data-trouble", x && (x.halts.length || x.partitions.some((q) => q.stuck || q.blocked)) ? "yes" : null);
    gauge(coming, x, p.name, now);
    show(details, Boolean(x && x.why.length));
    if (x) each(details.lastChild, x.why, (why) => why.replace(/\d/g, ""), () => h("li", {}), (li, why) => text(li, why));
  });
}

function sentence(x) {
  if (x.holding) return x.holding + ".";
  return x.why.length ? x.why[0] + "." : "Nothing holds it back.";
}

// gauge shows how far the window that fires next is.
function gauge(node, x, pipeline, now) {
  const [line, meter] = node.children;
  const w = x ? parse(x.next_watermark) : null;
  const window = next(pipeline);
  show(node, Boolean(window));
  if (!window) return;
  const length = window.end - window.start;
  const done = w === null ? 0 : Math.max(0, Math.min(1, 1 - (window.end - w) / length));
  text(line, `Next: ${window.name} to ${moment(window.end, w ?? window.end)} fires ${fires(window, now)}.`);
  attr(meter, "aria-label", `The watermark has passed ${Math.round(done * 100)} percent of that window`);
  meter.firstChild.style.width = (done * 100).toFixed(1) + "%";
}

const percentiles = (p) => (p && p.count ? [took(p.p50_ms), took(p.p99_ms)] : ["-", ""]);

// tiles draws the figures.
export function tiles(status, history) {
  const ingest = status.functions.find((f) => f.name === "ingest")?.took, folded = status.append_to_folded, plan = status.look_to_plan;
  const list = [
    { name: "Records a second", value: [short(status.rate)], note: integer(status.records) + " folded", line: history.records },
    { name: "Results a second", value: [short(status.result_rate)], note: integer(status.results) + " published", line: history.results },
    { name: "Lag", value: [short(status.lag)], note: status.lag === 0 ? "all is folded" : "offsets to fold", line: history.lag, warn: status.lag > 0 && growing(history.lag) },
    { name: "Ingest", value: percentiles(ingest), note: ingest?.count ? "p50 and p99 of an invocation" : status.mode === "watch" ? "it runs elsewhere" : "no invocation yet" },
    { name: status.folded_from_arrival ? "Arrival to folded" : "Append to folded", value: percentiles(folded), note: folded.count ? "p50 and p99, oldest of a batch" : "not seen from here" },
    { name: "Plan", value: percentiles(plan), note: plan.count ? `p50 and p99; ${plural(status.plans, "plan")}` : plural(status.plans, "plan") },
    { name: "Late records", value: [short(status.late)], note: "to the late topic" },
    { name: "Dead letters", value: [short(status.dead_letters)], note: "could not be used", warn: status.dead_letters > 0 },
  ];
  each(id("tiles"), list, (t) => t.name, (t) => h("div", { class: "tile" }, h("dt", {}, t.name), h("dd", {}, h("span", { class: "value" }), h("span", { class: "note" })), t.line ? spark() : null), (node, t) => {
    const [value, note] = node.children[1].children;
    const [first, second] = t.value;
    if (!value.firstChild) value.append(h("span", {}), h("span", { class: "second" }));
    text(value.firstChild, first);
    text(value.lastChild, second ? "/ " + second : "");
    text(note, t.note);
    attr(node, "data-warn", t.warn ? "yes" : null);
    if (t.line) drawSpark(node.children[2], t.line.slice(-120), true);
  });
}

// growing reports whether the lag has been getting larger for half a minute.
function growing(lag) {
  const some = lag.slice(-30);
  return some.length === 30 && some[29] > 2 * some[0] + 100 && some[29] > some[15];
}
