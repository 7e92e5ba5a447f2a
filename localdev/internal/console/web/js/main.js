// The page: what the stream brings is kept here, and drawn at most once a frame.
import { attr, id, text } from "./dom.js";
import { clock, took } from "./format.js";
import * as keyboard from "./keyboard.js";
import * as keys from "./keys.js";
import * as overview from "./overview.js";
import { connect } from "./stream.js";
import * as tables from "./tables.js";
import * as windows from "./windows.js";

const modes = { embedded: "all in one process", kafka: "on Kafka", watch: "watching" };
const states = { connecting: "Connecting", live: "Live", lost: "Disconnected, trying again", asleep: "Asleep" };

const data = {
  status: null, history: { records: [], results: [], lag: [] }, explain: { pipelines: [], troubles: [], time_ms: 0 }, windows: [], results: { sources: [] },
  rejects: { counts: [], last: [] }, ledger: [], functions: { functions: [], last: [] }, logs: [],
};

let dirty = new Set(), frame = 0, paused = false, connection = "connecting";

const draw = {
  status() {
    const s = data.status;
    text(id("app"), `${s.app}, ${modes[s.mode] || s.mode}`);
    document.title = `${data.explain.troubles.length ? "! " : ""}${s.app}: ${tables.summary(s)} - Tidemark`;
    overview.pipelines(s, data.explain);
    overview.tiles(s, data.history);
  },
  history() {},
  explain() {
    overview.troubles(data.explain.troubles);
    tables.partitions(data.explain);
    text(id("looked"), data.explain.time_ms ? `Looked at ${clock(data.explain.time_ms)}, which took ${took(data.explain.took_ms)}.` : "");
    draw.windows();
    if (data.status) overview.pipelines(data.status, data.explain);
  },
  windows() {
    windows.draw(data.explain, data.windows, data.results.sources);
  },
  results() {
    keys.draw(data.results);
  },
  rejects: () => tables.rejects(data.rejects),
  ledger: () => tables.ledger(data.ledger),
  functions: () => tables.functions(data.functions, data.status?.mode),
  logs: () => tables.logs(data.logs),
};

function later(section) {
  dirty.add(section);
  if (frame || paused) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    const now = dirty;
    dirty = new Set();
    if (now.has("explain")) now.delete("windows");
    for (const section of ["results", "explain", "windows", "status", "rejects", "ledger", "functions", "logs"]) {
      if (now.has(section) && (data.status || section !== "status")) draw[section]();
    }
  });
}

function pause() {
  paused = !paused;
  attr(id("pause"), "aria-pressed", paused);
  text(id("pause").querySelector(".name"), paused ? "Go on" : "Pause");
  shown();
  if (!paused) for (const section of Object.keys(draw)) later(section);
}

function shown() {
  const state = paused && connection === "live" ? "paused" : connection;
  attr(id("link"), "data-state", state);
  attr(document.body, "data-link", state);
  text(id("link"), state === "paused" ? "Paused" : states[state]);
}

windows.begin();
keys.begin();
keyboard.begin(pause);
id("partition-pipeline").addEventListener("change", () => later("explain"));
id("log-level").addEventListener("change", () => later("logs"));
connect((section, value) => {
  data[section] = value;
  later(section);
}, (state) => {
  connection = state;
  shown();
});
