// Small helpers for the document. Text is always set as text: nothing that comes from records or logs becomes markup.

export const id = (name) => document.getElementById(name);

// h makes an element. Attributes that are null are left out.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// s makes an SVG element.
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return node;
}

// text sets the text of a node, if it is another one.
export function text(node, value) {
  value = String(value);
  if (node.textContent !== value) node.textContent = value;
}

// attr sets an attribute, if it is another one; null takes it away.
export function attr(node, name, value) {
  if (value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  value = String(value);
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// show hides a node, or does not.
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

const kept = new WeakMap();

// each makes the children of parent those of a list, and keeps the nodes of items that were there before: what is selected or
// has the focus stays so.
export function each(parent, items, keyOf, make, update) {
  const before = kept.get(parent) || new Map();
  const now = new Map();
  const focus = document.activeElement;
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const node = before.get(key) || make(item);
    now.set(key, node);
    update(node, item);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const [key, node] of before) if (!now.has(key)) node.remove();
  while (at) {
    const next = at.nextElementSibling;
    if (![...now.values()].includes(at)) at.remove();
    at = next;
  }
  kept.set(parent, now);
  if (focus && focus !== document.activeElement && parent.contains(focus)) focus.focus({ preventScroll: true });
}

// cells makes a row update itself from a list of texts or nodes, with a class for each.
export function cells(row, values) {
  values.forEach((value, i) => {
    const td = row.cells[i] || row.insertCell();
    const { v, c = null, title = null, data = null } = value !== null && typeof value === "object" && !(value instanceof Node) ? value : { v: value };
    if (v instanceof Node) {
      if (td.firstChild !== v) td.replaceChildren(v);
    } else {
      text(td, v);
    }
    attr(td, "class", c);
    attr(td, "title", title);
    attr(td, "data-state", data);
  });
}

// options makes the options of a select those of a list, and keeps what is selected.
export function options(select, list) {
  const same = select.options.length === list.length && list.every((o, i) => select.options[i].value === o.value && select.options[i].text === o.text);
  if (same) return;
  const chosen = select.value;
  select.replaceChildren(...list.map((o) => {
    const option = h("option", { value: o.value });
    option.textContent = o.text;
    return option;
  }));
  if (list.some((o) => o.value === chosen)) select.value = chosen;
}
