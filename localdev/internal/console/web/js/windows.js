// The panel of windows: what the explanation has open and what results were seen of, as one list.
import { attr, cells, each, h, id, show, text } from "./dom.js";
import { integer, moment, parse } from "./format.js";
import { Timeline, fires, stateOf } from "./timeline.js";

const listed = 60;

let timeline = null;

export function begin() {
  timeline = new Timeline(id("timeline"), id("window-detail"));
  id("narrow").addEventListener("click", () => timeline.scale(0.5));
  id("wide").addEventListener("click", () => timeline.scale(2));
  id("window-list").addEventListener("toggle", () => id("window-list").open && list(last));
}

let last = { windows: [], w: null };

// merge joins windows that are open with those that were seen to fire.
export function merge(explain, fired, lanes) {
  const laneOf = new Map(lanes.map((l, i) => [l.pipeline + "|" + l.name, i]));
  const byId = new Map();
  const name = (pipeline, window, start, end) => [pipeline, window, start, end].join("|");
  for (const f of fired) {
    const lane = laneOf.get(f.pipeline + "|" + f.window);
    if (lane === undefined) continue;
    const key = name(f.pipeline, f.window, f.start_ms, f.end_ms);
    byId.set(key, { id: key, lane, pipeline: f.pipeline, name: f.window, start: f.start_ms, end: f.end_ms, state: "fired", seen: f.seen_ms, results: f.results, late: f.late });
  }
  for (const p of explain.pipelines) {
    const w = parse(p.next_watermark);
    for (const o of p.windows || []) {
      const lane = laneOf.get(p.pipeline + "|" + o.name);
      const start = parse(o.start), end = parse(o.end);
      if (lane === undefined || start === null || end === null) continue;
      const key = name(p.pipeline, o.name, start, end);
      const toGo = w === null ? null : Math.max(0, end - w);
      // When it fires by the clock: as fast as the watermark has been moving.
      const due = toGo !== null && p.pace > 0.02 ? explain.time_ms + toGo / p.pace : null;
      const known = byId.get(key);
      const state = o.fired || known ? "fired" : o.due ? "closing" : "open";
      byId.set(key, { ...known, id: key, lane, pipeline: p.pipeline, name: o.name, start, end, state, toGo, due, final: parse(o.final), partitions: o.partitions });
    }
  }
  return [...byId.values()].sort((a, b) => a.end - b.end || a.start - b.start || a.lane - b.lane);
}

// marks are where the pipeline that is furthest behind stands.
function marksOf(explain) {
  let w = null, newest = null;
  for (const p of explain.pipelines) {
    const at = parse(p.watermark);
    if (at !== null && (w === null || at < w)) w = at;
    for (const q of p.partitions || []) {
      const t = parse(q.max_event_time);
      if (t !== null && (newest === null || t > newest)) newest = t;
    }
  }
  return { w, newest };
}

// draw shows the windows.
export function draw(explain, fired, sources) {
  const lanes = sources.map((v) => ({ pipeline: v.pipeline, name: v.window }));
  const windows = merge(explain, fired, lanes);
  const marks = marksOf(explain);
  last = { windows, w: marks.w };
  show(id("window-empty"), windows.length === 0);
  show(id("timeline"), windows.length > 0);
  show(id("window-detail"), windows.length > 0);
  timeline.set(windows, lanes, marks);
  const open = explain.pipelines.reduce((n, p) => n + (p.windows || []).filter((w) => !w.fired && !w.due).length, 0);
  const closing = windows.filter((w) => w.state === "closing").length;
  const out = windows.filter((w) => w.state === "fired").length;
  const more = explain.pipelines.reduce((n, p) => n + Math.max(0, p.open_windows - (p.windows || []).length), 0);
  text(id("window-counts"), `${integer(open)} open${more ? ` and ${integer(more)} that are not listed` : ""}, ${integer(closing)} closing, ${integer(out)} fired`);
  if (id("window-list").open) list(last);
}

function list({ windows, w }) {
  const now = Date.now();
  const going = windows.filter((v) => v.state !== "fired").slice(0, listed);
  const gone = windows.filter((v) => v.state === "fired").slice(-listed).reverse();
  each(id("window-rows"), [...going, ...gone], (v) => v.id, () => h("tr", {}), (row, v) => {
    attr(row, "data-state", v.state);
    const about = w ?? v.end;
    cells(row, [
      { v: stateOf(v), c: "state", data: v.state }, v.pipeline, v.name, moment(v.start, about), moment(v.end, about), fires(v, now),
      v.state === "fired" && v.results !== undefined ? integer(v.results) + (v.late ? ` + ${integer(v.late)} late` : "") : "",
    ]);
  });
}

// next returns the window of a pipeline that fires next.
export function next(pipeline) {
  return last.windows.find((v) => v.pipeline === pipeline && v.state !== "fired") || null;
}

// scale is for the keyboard.
export function scale(by) {
  timeline.scale(by);
}
