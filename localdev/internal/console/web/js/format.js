// How numbers and times are written.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function integer(n) {
  return grouped.format(n);
}

// short writes a number in few letters: 12.3k, 4.56M.
export function short(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "-";
  const a = Math.abs(n);
  if (a >= 1e15 || (a > 0 && a < 1e-3)) return n.toExponential(2);
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (a >= unit) return trim((n / (unit === 1e4 ? 1e3 : unit)).toPrecision(3)) + name;
  }
  return trim(a >= 100 ? n.toFixed(a >= 1000 || Number.isInteger(n) ? 0 : 1) : n.toPrecision(3));
}

function trim(text) {
  if (text.includes("e")) return String(Number(text));
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

// exact writes a number with all it has.
export function exact(n) {
  if (n === null || n === undefined) return "none";
  return Number.isInteger(n) ? integer(n) : String(n);
}

const two = (n) => String(n).padStart(2, "0");

// clock writes the time of day, UTC, with milliseconds only where there are any.
export function clock(ms, always) {
  const d = new Date(ms);
  if (Number.isNaN(d.getTime())) return "-";
  const rest = d.getUTCMilliseconds();
  return two(d.getUTCHours()) + ":" + two(d.getUTCMinutes()) + ":" + two(d.getUTCSeconds()) + (rest || always ? "." + String(rest).padStart(3, "0") : "");
}

export function date(ms) {
  const d = new Date(ms);
  return Number.isNaN(d.getTime()) ? "" : d.toISOString().slice(0, 10);
}

// moment writes the time of day, and the date where it is another one than that of the reference.
export function moment(ms, reference, always) {
  if (ms === null || ms === undefined) return "-";
  return date(ms) === date(reference) ? clock(ms, always) : date(ms) + " " + clock(ms, always);
}

// parse reads a time as the API writes it; null if there is none.
export function parse(textOrNull) {
  if (!textOrNull || textOrNull === "-inf" || textOrNull === "+inf") return null;
  const ms = Date.parse(textOrNull);
  return Number.isNaN(ms) ? null : ms;
}

// span writes milliseconds for people: 3.2 s, 1 m 05 s, 2 h 10 m.
export function span(ms) {
  const sign = ms < 0 ? "-" : "";
  ms = Math.abs(ms);
  if (ms < 1000) return sign + Math.round(ms) + " ms";
  if (ms < 10000) return sign + trim((ms / 1000).toFixed(1)) + " s";
  if (ms < 60000) return sign + Math.round(ms / 1000) + " s";
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return sign + Math.floor(seconds / 60) + " m " + two(seconds % 60) + " s";
  if (seconds < 86400) return sign + Math.floor(seconds / 3600) + " h " + two(Math.floor(seconds / 60) % 60) + " m";
  return sign + Math.floor(seconds / 86400) + " d " + Math.floor(seconds / 3600) % 24 + " h";
}

// took writes a duration that was measured.
export function took(ms) {
  if (ms < 10) return trim(ms.toFixed(2)) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  return span(ms);
}

export function bytes(n) {
  if (!n) return "";
  return n < 1e6 ? trim((n / 1e3).toPrecision(3)) + " kB" : trim((n / 1e6).toPrecision(3)) + " MB";
}

// plural writes a number of things.
export function plural(n, one, many) {
  return integer(n) + " " + (n === 1 ? one : many || one + "s");
}
