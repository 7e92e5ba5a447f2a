// Windows on event time: which are open, closing and fired, where the watermark is, and what is next.
import { attr, each, s, text } from "./dom.js";
import { timeTicks } from "./charts.js";
import { clock, integer, moment, plural, span } from "./format.js";

const laneTop = 18, rowHeight = 24, rowGap = 4, laneGap = 12, axis = 26, mostRows = 6;

// The watermark stands here, as a share of the width.
const stand = 0.6;

// stateOf says in a word and a sentence how a window is.
export function stateOf(w) {
  switch (w.state) {
    case "open": return "open";
    case "closing": return "closing";
    case "fired": return w.late ? "fired, corrected" : "fired";
  }
  return w.state;
}

// fires says when a window fires, in a few words.
export function fires(w, now) {
  if (w.state === "fired") return w.seen ? span(Math.max(0, now - w.seen)) + " ago" : "is out";
  if (w.state === "closing") return "now";
  if (w.due !== null && w.due !== undefined) return w.due - now < 1000 ? "any moment" : "in about " + span(1000 * Math.round((w.due - now) / 1000));
  return w.toGo === null ? "waits for a watermark" : "when W moves " + span(w.toGo);
}

export class Timeline {
  constructor(place, detail) {
    this.place = place;
    this.detail = detail;
    this.windows = [];
    this.lanes = [];
    this.zoom = 1;
    this.current = null;
    this.svg = s("svg", { class: "timeline", "aria-hidden": "true" },
      s("defs", {}, s("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(40)" },
        s("rect", { class: "hatch-ground", width: 7, height: 7 }), s("path", { class: "hatching", d: "M0 0V7" })),
      s("clipPath", { id: "strip" }, s("rect", { x: 0, y: 0 }))),
      s("rect", { class: "water", x: 0, y: 0 }),
      s("g", { "clip-path": "url(#strip)" }, s("g", { class: "moving" }, s("g", { class: "grid" }), s("g", { class: "bars" }))),
      s("g", { class: "names" }),
      s("path", { class: "newest" }),
      s("path", { class: "wline" }), s("path", { class: "wflag" }), s("text", { class: "wname middle" }));
    place.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(place);
    this.svg.addEventListener("pointermove", (e) => this.over(e));
    this.svg.addEventListener("click", (e) => this.over(e));
    place.addEventListener("keydown", (e) => this.key(e));
  }

  over(event) {
    const bar = event.target.closest("[data-window]");
    if (bar) this.choose(bar.dataset.window);
  }

  choose(name) {
    this.current = name;
    for (const node of this.svg.querySelectorAll("[data-window]")) node.classList.toggle("current", node.dataset.window === name);
    this.tell();
  }

  tell() {
    const w = this.windows.find((v) => v.id === this.current);
    if (!w) return;
    const parts = [`${w.pipeline}, ${w.name}: ${moment(w.start, w.end)} to ${moment(w.end, w.end)}`, stateOf(w)];
    if (w.state === "fired") {
      if (w.results) parts.push(plural(w.results, "result"));
      if (w.late) parts.push(plural(w.late, "correction") + " by late records");
      if (w.final) parts.push(`takes late records until W is ${moment(w.final, w.end)}`);
    } else {
      parts.push("fires " + fires(w, Date.now()));
      if (w.partitions) parts.push("has records of " + w.partitions.slice(0, 4).join(", ") + (w.partitions.length > 4 ? ` and ${w.partitions.length - 4} more` : ""));
    }
    text(this.detail, parts.join("; ") + ".");
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!move && event.key !== "Home" && event.key !== "End") return;
    event.preventDefault();
    const shown = this.windows.filter((w) => w.shown);
    if (!shown.length) return;
    const now = shown.find((w) => w.id === this.current);
    let to;
    if (!now) to = shown.find((w) => w.state !== "fired") || shown[shown.length - 1];
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const lane = shown.filter((w) => w.lane === now.lane);
      to = lane[lane.indexOf(now) + move];
    } else if (event.key === "Home" || event.key === "End") {
      const lane = shown.filter((w) => w.lane === now.lane);
      to = lane[event.key === "Home" ? 0 : lane.length - 1];
    } else {
      const others = shown.filter((w) => w.lane === now.lane + move);
      to = others.find((w) => w.end >= now.end) || others[others.length - 1];
    }
    if (to) this.choose(to.id);
  }

  // scale shows more (2) or less (0.5) time.
  scale(by) {
    this.zoom = Math.min(64, Math.max(1 / 16, this.zoom * by));
    this.anchor = undefined;
    this.draw();
  }

  // set takes the windows, in their order of time, the lanes ({pipeline, name}) in that of the spec, and the marks: w, next, newest.
  set(windows, lanes, marks) {
    this.windows = windows;
    this.lanes = lanes;
    this.marks = marks;
    this.draw();
    this.tell();
  }

  // widthOf is the time that the line covers: about a dozen of the smallest step, and the longest window in sight.
  widthOf() {
    let step = Infinity, longest = 0;
    const byLane = new Map();
    for (const w of this.windows) {
      longest = Math.max(longest, w.end - w.start);
      const ends = byLane.get(w.lane) || [];
      byLane.set(w.lane, ends);
      if (ends[ends.length - 1] !== w.end) ends.push(w.end);
    }
    for (const ends of byLane.values()) {
      for (let i = 1; i < ends.length; i++) if (ends[i] > ends[i - 1]) step = Math.min(step, ends[i] - ends[i - 1]);
    }
    if (step === Infinity) step = longest || 60000;
    return Math.max(12 * step, Math.min(1.8 * longest, 60 * step), 1000) * this.zoom;
  }

  draw() {
    const width = this.place.clientWidth;
    const m = this.marks;
    if (!width || !m) return;
    const about = m.w ?? m.newest ?? (this.windows.length ? this.windows[this.windows.length - 1].end : null);
    const place = this.layout(about, width);
    const height = Math.max(96, place.height + axis);
    attr(this.svg, "viewBox", `0 0 ${width} ${height}`);
    attr(this.svg, "height", height);
    const clip = this.svg.querySelector("#strip rect");
    attr(clip, "width", width);
    attr(clip, "height", height);
    if (about === null) return;
    const { k, from, to } = place;
    // What moves is drawn around an anchor and shifted as a whole, so that it glides.
    const moving = this.svg.querySelector(".moving");
    const glide = this.anchor !== undefined && this.k === k && this.width === width && Math.abs(about - this.last) * k < width;
    if (!glide) this.anchor = about;
    this.k = k;
    this.width = width;
    this.last = about;
    const x = (t) => (t - this.anchor) * k;
    moving.classList.toggle("still", !glide);
    moving.style.transform = `translateX(${(-x(from)).toFixed(1)}px)`;
    this.grid(timeTicks(from - (to - from) * 0.2, to, Math.max(2, width / 120)), x, height);
    this.bars(place.placed, x, k, x(from));
    this.marksAt(place, width, height);
  }

  // layout gives each window that is in sight a row of its lane.
  layout(about, width) {
    const range = this.widthOf();
    const from = about === null ? 0 : about - range * stand, to = from + range, k = width / range;
    const placed = [], heads = [];
    for (const w of this.windows) w.shown = false;
    let y = 0;
    this.lanes.forEach((lane, index) => {
      const rows = [];
      let hidden = 0;
      for (const w of this.windows) {
        if (w.lane !== index || w.end < from - range * 0.2 || w.start > to) continue;
        let row = rows.findIndex((end) => end <= w.start);
        if (row < 0 && rows.length < mostRows) row = rows.push(0) - 1;
        if (row < 0) {
          hidden++;
          continue;
        }
        rows[row] = w.end;
        w.shown = w.end >= from;
        placed.push({ w, y: y + laneTop + row * (rowHeight + rowGap) });
      }
      heads.push({ name: (this.manyPipelines() ? lane.pipeline + " / " : "") + lane.name, hidden, y: y + 13 });
      y += laneTop + Math.max(1, rows.length) * (rowHeight + rowGap) + laneGap;
    });
    return { placed, heads, height: y, from, to, k };
  }

  manyPipelines() {
    return new Set(this.lanes.map((l) => l.pipeline)).size > 1;
  }

  grid(ticks, x, height) {
    each(this.svg.querySelector(".grid"), ticks, (t) => t + "/" + this.anchor + "/" + this.k,
      () => s("g", {}, s("path", {}), s("text", { class: "middle" })), (node, t) => {
        attr(node.firstChild, "d", `M${x(t).toFixed(1)} 0V${height - axis + 4}`);
        attr(node.lastChild, "x", x(t).toFixed(1));
        attr(node.lastChild, "y", height - 6);
        text(node.lastChild, clock(t));
      });
  }

  bars(placed, x, k, edge) {
    const now = Date.now();
    each(this.svg.querySelector(".bars"), placed, (p) => p.w.id, (p) => s("g", { "data-window": p.w.id },
      s("rect", { height: rowHeight, rx: 4 }), s("path", { class: "latemark" }), s("text", {})), (node, { w, y }) => {
      const [rect, late, label] = node.children;
      const at = x(w.start), width = Math.max(2, (w.end - w.start) * k - 2);
      node.classList.toggle("current", w.id === this.current);
      attr(rect, "class", "bar " + w.state);
      attr(rect, "x", at.toFixed(1));
      attr(rect, "y", y);
      attr(rect, "width", width.toFixed(1));
      attr(late, "d", w.late ? `M${(at + width - 9).toFixed(1)} ${y}h9v9z` : null);
      const words = w.state === "fired" ? ["\u2713 " + plural(w.results || 0, "result"), "\u2713 " + integer(w.results || 0), "\u2713"]
        : w.state === "closing" ? ["closing", "..."]
          : [fires(w, now), w.due && w.due - now >= 1000 ? span(1000 * Math.round((w.due - now) / 1000)) : "open", ""];
      // What begins out of sight has its words where it can be seen.
      const seen = Math.max(at, edge), room = at + width - seen;
      const fitting = words.find((word) => word.length * 6.4 + 10 <= room) || "";
      attr(label, "class", "on-" + w.state);
      attr(label, "x", (seen + 6).toFixed(1));
      attr(label, "y", y + 16);
      text(label, w.state === "fired" && !w.results ? (room > 16 ? "\u2713" : "") : fitting);
    });
  }

  marksAt(place, width, height) {
    const { w, newest } = this.marks;
    const x = (t) => (t - place.from) * place.k;
    const inside = (t) => t !== null && t >= place.from && t <= place.to;
    each(this.svg.querySelector(".names"), place.heads, (h) => h.name + h.y, () => s("text", { x: 4 }), (node, h) => {
      attr(node, "y", h.y);
      text(node, h.name + (h.hidden ? `  (${integer(h.hidden)} more than fit)` : ""));
    });
    const low = height - axis + 4;
    const water = this.svg.querySelector(".water");
    attr(water, "height", low);
    attr(water, "width", w === null ? 0 : Math.max(0, Math.min(width, x(w))).toFixed(1));
    attr(this.svg.querySelector("path.newest"), "d", inside(newest) ? `M${x(newest).toFixed(1)} 0V${low}` : null);
    const line = this.svg.querySelector("path.wline"), name = this.svg.querySelector(".wname"), flag = this.svg.querySelector(".wflag");
    if (!inside(w)) {
      attr(line, "d", null);
      attr(flag, "d", null);
      text(name, "");
      return;
    }
    attr(line, "d", `M${x(w).toFixed(1)} 0V${low}`);
    text(name, "W " + clock(w, true));
    const half = 52;
    attr(flag, "d", `M${(x(w) - half).toFixed(1)} ${low}h${2 * half}v${axis - 6}h${-2 * half}z`);
    attr(name, "x", x(w).toFixed(1));
    attr(name, "y", height - 7);
  }
}
