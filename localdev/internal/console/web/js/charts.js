// Lines in SVG: a small one without axes, and a chart with them.
import { attr, each, h, s, text } from "./dom.js";
import { clock, moment, short } from "./format.js";

// runs splits points into stretches without a hole: [[x, y], ...].
function runs(points) {
  const out = [];
  let run = null;
  for (const p of points) {
    if (p[1] === null) {
      run = null;
      continue;
    }
    if (!run) out.push(run = []);
    run.push(p);
  }
  return out;
}

const path = (run) => run.map((p, i) => (i ? "L" : "M") + p[0].toFixed(1) + " " + p[1].toFixed(1)).join("");

const sparkWidth = 120, sparkHeight = 26;

// spark makes a small line.
export function spark() {
  return s("svg", { class: "spark", viewBox: `0 0 ${sparkWidth} ${sparkHeight}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "area" }), s("path", { class: "stroke" }));
}

// drawSpark draws numbers, oldest first; null is a hole. Lines of counters begin at zero.
export function drawSpark(svg, numbers, fromZero) {
  const known = numbers.filter((n) => n !== null);
  let low = Math.min(...known), high = Math.max(...known);
  if (fromZero) low = Math.min(0, low);
  const [area, stroke] = svg.children;
  if (!known.length || !Number.isFinite(low) || !Number.isFinite(high)) {
    attr(area, "d", null);
    attr(stroke, "d", null);
    return;
  }
  const range = high - low || 1;
  const x = (i) => (numbers.length === 1 ? sparkWidth / 2 : 1 + i * (sparkWidth - 2) / (numbers.length - 1));
  const y = (n) => (high === low ? (fromZero && high === 0 ? sparkHeight - 2 : sparkHeight / 2) : sparkHeight - 2 - (n - low) / range * (sparkHeight - 4));
  const stretches = runs(numbers.map((n, i) => [x(i), n === null ? null : y(n)]));
  attr(stroke, "d", stretches.map((r) => (r.length === 1 ? path([[r[0][0] - 1, r[0][1]], [r[0][0] + 1, r[0][1]]]) : path(r))).join(""));
  attr(area, "d", stretches.map((r) => path(r) + `L${r[r.length - 1][0].toFixed(1)} ${sparkHeight}L${r[0][0].toFixed(1)} ${sparkHeight}Z`).join(""));
}

// nice returns round steps between two numbers, about so many.
export function nice(low, high, about) {
  const rough = (high - low || Math.abs(high) || 1) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough * 0.999);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6 && out.length < 100; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return out;
}

const timeSteps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 2 * 864e5, 7 * 864e5, 30 * 864e5, 365 * 864e5, 3650 * 864e5];

// timeTicks returns round moments between two.
export function timeTicks(low, high, about) {
  const rough = (high - low) / about;
  const step = timeSteps.find((m) => m >= rough) || timeSteps[timeSteps.length - 1];
  const out = [];
  for (let t = Math.ceil(low / step) * step; t <= high && out.length < 100; t += step) out.push(t);
  return out;
}

const left = 52, right = 14, top = 12, bottom = 26;

// Chart draws the values of one key over its windows, with a cursor that the mouse and the arrow keys move.
export class Chart {
  constructor(place, detail) {
    this.place = place;
    this.detail = detail;
    this.points = [];
    this.name = "";
    this.at = -1;
    this.svg = s("svg", { class: "chart", "aria-hidden": "true" },
      s("g", { class: "grid" }), s("path", { class: "area" }), s("path", { class: "stroke" }), s("g", { class: "dots" }),
      s("path", { class: "cursor" }), s("circle", { class: "cursor", r: 5, cx: -20, cy: -20 }));
    place.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(place);
    place.addEventListener("pointermove", (e) => this.point(e.clientX - place.getBoundingClientRect().left));
    place.addEventListener("pointerleave", () => this.go(-1));
    place.addEventListener("keydown", (e) => {
      const last = this.points.length - 1;
      const to = { ArrowLeft: this.at < 0 ? last : Math.max(0, this.at - 1), ArrowRight: this.at < 0 ? last : Math.min(last, this.at + 1), Home: 0, End: last }[e.key];
      if (to === undefined || last < 0) return;
      e.preventDefault();
      this.go(to);
    });
  }

  // set takes points {start, end, value, late}, ascending.
  set(name, points) {
    const end = this.at >= 0 && this.points[this.at] ? this.points[this.at].end : null;
    this.name = name;
    this.points = points;
    this.at = end === null ? -1 : points.findIndex((p) => p.end === end);
    this.draw();
  }

  point(x) {
    let best = -1;
    this.points.forEach((p, i) => {
      if (best < 0 || Math.abs(this.x(p.end) - x) < Math.abs(this.x(this.points[best].end) - x)) best = i;
    });
    this.go(best);
  }

  go(i) {
    this.at = i;
    this.cursor();
  }

  x(t) {
    return this.points.length < 2 ? (left + this.width - right) / 2 : left + (t - this.from) / (this.to - this.from) * (this.width - left - right);
  }

  y(v) {
    return this.height - bottom - (v - this.low) / (this.high - this.low) * (this.height - top - bottom);
  }

  draw() {
    this.width = this.place.clientWidth;
    this.height = this.place.clientHeight;
    if (!this.width || !this.height) return;
    attr(this.svg, "viewBox", `0 0 ${this.width} ${this.height}`);
    const known = this.points.filter((p) => p.value !== null);
    const [grid, area, stroke, dots] = this.svg.children;
    if (!known.length) {
      grid.replaceChildren();
      dots.replaceChildren();
      attr(area, "d", null);
      attr(stroke, "d", null);
      this.cursor();
      return;
    }
    this.from = this.points[0].end;
    this.to = this.points[this.points.length - 1].end;
    let low = Math.min(...known.map((p) => p.value)), high = Math.max(...known.map((p) => p.value));
    if (low > 0 && low < high * 0.6) low = 0;
    const least = Math.abs(high) * 0.1; // noise is not to look like more
    if (low !== high && high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
    if (low === high) [low, high] = low === 0 ? [0, 1] : [Math.min(0, low), Math.max(0, high)];
    const steps = nice(low, high, 4);
    const gap = steps.length > 1 ? steps[1] - steps[0] : (high - low) / 4;
    this.low = Math.floor(low / gap + 1e-9) * gap;
    this.high = Math.ceil(high / gap - 1e-9) * gap;
    const ticks = this.points.length > 1 ? timeTicks(this.from, this.to, Math.max(2, (this.width - left) / 110)) : [this.to];
    grid.replaceChildren(
      ...nice(this.low, this.high, 4).flatMap((v) => [
        s("path", { d: `M${left} ${this.y(v).toFixed(1)}H${this.width - right}` }),
        s("text", { x: left - 8, y: (this.y(v) + 4).toFixed(1), class: "end" }, short(v)),
      ]),
      ...ticks.map((t) => {
        const last = this.x(t) > this.width - 36; // it would stand out of the picture
        return s("text", { x: last ? this.width - 4 : this.x(t).toFixed(1), y: this.height - 8, class: last ? "end" : "middle" }, clock(t));
      }),
    );
    const stretches = runs(this.points.map((p) => [this.x(p.end), p.value === null ? null : this.y(p.value)]));
    attr(stroke, "d", stretches.map(path).join(""));
    attr(area, "d", stretches.map((r) => path(r) + `L${r[r.length - 1][0].toFixed(1)} ${this.height - bottom}L${r[0][0].toFixed(1)} ${this.height - bottom}Z`).join(""));
    // Windows that were corrected stand out by their form.
    each(dots, known, (p) => p.start + "/" + p.end + (p.late ? "late" : ""), (p) => (p.late ? s("path", { class: "late" }) : s("circle", { r: 2.5 })), (node, p) => {
      const x = this.x(p.end).toFixed(1), y = this.y(p.value).toFixed(1);
      if (p.late) attr(node, "d", `M${x} ${y}m0 -5l5 5l-5 5l-5 -5z`);
      else {
        attr(node, "cx", x);
        attr(node, "cy", y);
      }
    });
    this.cursor();
  }

  cursor() {
    const [, , , , line, ring] = this.svg.children;
    const p = this.points[this.at];
    attr(line, "d", p ? `M${this.x(p.end).toFixed(1)} ${top}V${this.height - bottom}` : null);
    attr(ring, "cx", p && p.value !== null ? this.x(p.end).toFixed(1) : -20);
    attr(ring, "cy", p && p.value !== null ? this.y(p.value).toFixed(1) : -20);
    const shown = p || this.points[this.points.length - 1];
    text(this.detail, shown
      ? `${moment(shown.start, shown.end)} to ${moment(shown.end, shown.end)}: ${this.name} ${shown.value === null ? "none" : short(shown.value)}${shown.late ? ", corrected by late records" : ""}${p ? "" : " (newest)"}`
      : "");
    this.onGo?.(shown);
  }
}

// bar makes a share of a width, for tables.
export function bar() {
  return h("span", { class: "bar-line", "aria-hidden": "true" }, h("span", {}));
}
