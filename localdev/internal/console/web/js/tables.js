// The panels that are tables: partitions, rejected records, the ledger, functions, logs.
import { attr, cells, each, h, id, options, show, text } from "./dom.js";
import { bytes, clock, integer, moment, parse, plural, short, took } from "./format.js";

const listed = 200;

// partitions shows those of one pipeline: what needs attention first.
export function partitions(explain) {
  const pick = id("partition-pipeline");
  options(pick, explain.pipelines.map((p) => ({ value: p.pipeline, text: p.pipeline })));
  show(id("partition-pick"), explain.pipelines.length > 1);
  const p = explain.pipelines.find((v) => v.pipeline === pick.value) || explain.pipelines[0];
  show(id("partition-empty"), !p || !p.partitions.length);
  if (!p) return;
  const name = (q) => q.topic + "/" + q.partition;
  const holder = p.held_by.slice(0, p.held_by.lastIndexOf(" ("));
  const state = (q) => {
    if (q.blocked) return { word: "blocked", words: "\u25a0 blocked", rank: 0 };
    if (q.stuck) return { word: "stuck", words: "\u25a0 stuck", rank: 1 };
    if (q.state !== "ok") return { word: "restore", words: "\u25b2 " + q.state, rank: 2 };
    if (name(q) === holder) return { word: "holds", words: "\u25b6 holds W back", rank: 3 };
    if (q.open_transaction) return { word: "holds", words: "\u25b3 open transaction", rank: 4 };
    if (q.idle) return { word: "idle", words: "\u25cb idle, left out", rank: 5 };
    if (q.idle_in) return { word: "quiet", words: `\u25d4 idle in ${q.idle_in}`, rank: 5 };
    return { word: "ok", words: "\u25cf ok", rank: 5 };
  };
  const list = p.partitions.map((q) => ({ ...q, at: state(q) })).sort((a, b) => a.at.rank - b.at.rank);
  const most = Math.max(1, ...list.map((q) => q.lag));
  text(id("partition-counts"), plural(list.length, "partition") + (list.length > listed ? `, the first ${listed} are listed` : ""));
  const about = parse(p.watermark) ?? Date.now();
  each(id("partition-rows"), list.slice(0, listed), name, () => {
    const row = h("tr", {});
    row.lag = h("span", { class: "lag" }, h("span", {}), h("span", { class: "bar-line", "aria-hidden": "true" }, h("span", {})));
    return row;
  }, (row, q) => {
    attr(row, "data-state", q.at.word);
    text(row.lag.firstChild, integer(q.lag));
    row.lag.lastChild.firstChild.style.width = (100 * q.lag / most).toFixed(1) + "%";
    cells(row, [
      { v: name(q), c: "name" }, { v: q.at.words, c: "state", data: q.at.word, title: q.blocked || null }, { v: row.lag, c: "n" }, { v: integer(q.applied), c: "n" }, { v: integer(q.end), c: "n" },
      { v: q.max_event_time ? moment(parse(q.max_event_time), about, true) : "none yet", c: "time" }, { v: q.watermark ? moment(parse(q.watermark), about, true) : "none yet", c: "time" },
      { v: q.last_record_age ? ago(q.last_record_age) : "-", c: "n" },
    ]);
  });
}

// ago shortens a duration of Go's.
function ago(d) {
  return d.replace(/(\d+)\.\d+s$/, "$1s") + " ago";
}

const meanings = {
  late: "too late for all of its windows", decode: "not one JSON document in UTF-8", timestamp_missing: "no timestamp", timestamp_invalid: "no point in time",
  timestamp_future: "too far ahead of its Kafka timestamp", key_missing: "lacks a key field", value_missing: "has none of the values", value_type: "not a number",
  value_not_finite: "NaN, infinite or too large", too_large: "key or record too large", lost: "the log no longer had it", expression: "an expression of the spec failed",
};

export function rejects(data) {
  const total = data.counts.reduce((n, c) => n + c.count, 0);
  show(id("reject-empty"), total === 0);
  show(id("reject-table"), total > 0);
  const most = Math.max(1, ...data.counts.map((c) => c.count));
  each(id("reasons"), data.counts, (c) => c.reason, (c) => h("li", {}, h("span", { class: "reason" }, c.reason), h("span", { class: "bar-line", "aria-hidden": "true" }, h("span", {})), h("span", { class: "n" }), h("span", { class: "note" }, meanings[c.reason] || "")), (li, c) => {
    li.children[1].firstChild.style.width = (100 * c.count / most).toFixed(1) + "%";
    text(li.children[2], integer(c.count));
  });
  each(id("reject-rows"), data.last, (r) => [r.topic, r.partition, r.offset, r.reason, r.plan].join("/"), () => {
    const row = h("tr", {});
    row.record = h("div", { class: "clamp" });
    return row;
  }, (row, r) => {
    const detail = r.lateness_ms !== null ? `${took(r.lateness_ms)} behind W` + (r.detail ? "; " + r.detail : "") : r.detail;
    cells(row, [{ v: r.reason, c: "reason", title: meanings[r.reason] || null }, { v: `${r.topic}/${r.partition} @ ${r.offset}`, c: "name" }, { v: detail, c: "wide" }, { v: row.record, c: "code wide" }]);
    text(row.record, (r.key ? r.key + "  " : "") + r.value);
    attr(row.record, "title", row.record.textContent);
  });
}

export function ledger(plans) {
  show(id("ledger-empty"), plans.length === 0);
  show(id("ledger-table"), plans.length > 0);
  const many = new Set(plans.map((p) => p.pipeline)).size > 1;
  const lost = plans.reduce((n, p) => n + Math.abs(p.unaccounted), 0);
  text(id("balance"), plans.length === 0 ? "" : lost === 0 ? "\u2713 the books balance" : `\u25a0 ${integer(lost)} records are not accounted for`);
  attr(id("balance"), "data-state", lost ? "stuck" : "ok");
  each(id("ledger-rows"), plans, (p) => p.pipeline + "/" + p.plan + "/" + p.timestamp + "/" + (p.note || ""), () => h("tr", {}), (row, p) => {
    const other = p.skipped + p.filtered + p.unassigned;
    const made = parse(p.timestamp);
    cells(row, [
      { v: (many ? p.pipeline + " " : "") + integer(p.plan), c: "n", title: `made ${made === null ? "" : clock(made, true)}, held by ${p.held_by}` + (p.note ? "; " + p.note : "") },
      { v: p.watermark_ms === null ? "none" : moment(p.watermark_ms, made ?? p.watermark_ms, true), c: "time" },
      ...[p.in, p.final, p.open, p.late, p.dead].map((n) => ({ v: integer(n), c: "n" })),
      { v: integer(other), c: "n", title: `skipped ${integer(p.skipped)}, filtered ${integer(p.filtered)}, in no window ${integer(p.unassigned)}` },
      p.unaccounted === 0 ? { v: "\u2713", c: "state", data: "ok" } : { v: "\u25a0 " + integer(p.unaccounted), c: "state", data: "stuck" },
    ]);
  });
}

export function functions(data, mode) {
  const none = data.functions.length === 0;
  for (const name of ["function-table", "invocation-table", "invocations-title"]) show(id(name), !none);
  show(id("function-empty"), none);
  text(id("function-empty"), mode === "watch" ? "The functions run elsewhere: their invocations and logs are not to be seen from here, but in CloudWatch, or on the console of the run." : "No invocation yet.");
  each(id("function-rows"), data.functions, (f) => f.name, () => h("tr", {}), (row, f) => {
    cells(row, [
      { v: f.name, c: "name" }, { v: integer(f.calls), c: "n" }, { v: integer(f.errors), c: "n", data: f.errors ? "stuck" : null }, { v: integer(f.cold_starts), c: "n" },
      { v: took(f.took.p50_ms), c: "n" }, { v: took(f.took.p99_ms), c: "n" }, { v: took(f.took.max_ms) + (f.max_memory_bytes ? ", " + bytes(f.max_memory_bytes) : ""), c: "n" },
    ]);
  });
  each(id("invocation-rows"), data.last.slice(0, 60), (i) => i.function + i.request_id + i.time_ms, () => h("tr", {}), (row, i) => {
    cells(row, [
      { v: clock(i.time_ms, true), c: "time" }, { v: i.function, c: "name", title: i.request_id }, { v: took(i.took_ms), c: "n" }, { v: i.records ? integer(i.records) : "", c: "n" },
      i.cold_start ? "cold" + (i.init_ms ? ", " + took(i.init_ms) : "") : "warm",
      i.error ? { v: "\u25a0 " + i.error, c: "state wide", data: "stuck", title: i.error } : { v: "\u2713" + (i.max_memory_bytes ? " " + bytes(i.max_memory_bytes) : ""), c: "state", data: "ok" },
    ]);
  });
}

const severe = { "": 0, DEBUG: 0, INFO: 1, WARN: 2, ERROR: 3 };

export function logs(lines) {
  const least = severe[id("log-level").value];
  const shown = lines.filter((l) => (severe[l.level.split(/[+-]/)[0]] ?? 1) >= least);
  show(id("log-empty"), shown.length === 0);
  show(id("log-rows"), shown.length > 0);
  text(id("log-empty"), lines.length ? "No line of this level." : "No line yet.");
  // Lines have no name of their own: equal ones of the same time are told apart by their number.
  const seen = new Map();
  const items = shown.slice(0, 250).toReversed().map((l) => {
    const name = l.time_ms + l.function + l.line;
    seen.set(name, (seen.get(name) || 0) + 1);
    return { ...l, key: name + "#" + seen.get(name) };
  }).toReversed();
  each(id("log-rows"), items, (l) => l.key, (l) => h("li", { "data-level": l.level, title: l.request_id || null },
    h("time", {}, clock(l.time_ms, true)), h("span", { class: "level" }, l.level), h("span", { class: "from" }, l.function), h("span", { class: "text" }, l.line)), () => {});
}

// counted says how many are rejected and are not shown apart, for the title of the page.
export const summary = (status) => `${short(status.rate)}/s, lag ${short(status.lag)}`;
