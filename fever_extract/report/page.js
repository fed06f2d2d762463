"use strict";
// What Python found out (page.py), drawn and filtered. Names of files and columns come from outside: they
// reach the page through textContent and canvas text, and never as HTML.

const at = (id) => document.getElementById(id);
const TYPES = { i4: Int32Array, f4: Float32Array, f8: Float64Array };
const data = JSON.parse(at("data").textContent, (_, value) => {
  if (typeof value?.base64 !== "string") return value;
  return new TYPES[value.type](Uint8Array.from(atob(value.base64), (byte) => byte.charCodeAt(0)).buffer);
});
const count = data.path.codes.length;
const range = (n) => Array.from({ length: n }, (_, index) => index);
const percent = (value) => `${Math.round(100 * value)}%`;
const number = (value) => Number(value.toPrecision(3)).toString();
const counted = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const path = (row) => data.path.names[data.path.codes[row]];
const named = (column, row) => column.names[column.codes[row]];
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const COLORS = {
  __proto__: null,  // a label may be called so, or "constructor"
  neutral: "#98a2b3", happiness: "#f4b000", surprise: "#12a8b8", sadness: "#3568d4",
  anger: "#d92d20", disgust: "#5f9f33", fear: "#7a4bc2", contempt: "#c2649a", "(other)": "#c0c4cc",
};
const VIRIDIS = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"];
const hue = (name, index) => COLORS[name] ?? `hsl(${(index * 137.5 + 210) % 360}, 62%, 50%)`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function options(id, names, labels = names) {
  at(id).replaceChildren(...names.map((name, index) => new Option(labels[index], name)));
}

// Faces as pictures

const sheets = (data.pictures?.sheets ?? []).map((source) => Object.assign(new Image(), { src: source }));
const hasPicture = (row) => Boolean(data.pictures) && data.pictures.slots[row] >= 0;

function drawPicture(context, row, x, y, size) {
  const { side, across, per_sheet: perSheet, slots } = data.pictures;
  const place = slots[row] % perSheet;
  context.drawImage(sheets[Math.floor(slots[row] / perSheet)],
    (place % across) * side, Math.floor(place / across) * side, side, side, x, y, size, size);
}

function picture(row, size) {
  const made = hasPicture(row) ? element("canvas", "picture") : element("div", "picture", "no picture");
  made.style.width = made.style.height = `${size}px`;
  if (hasPicture(row)) {
    made.width = made.height = 2 * size;  // sharp on dense screens
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", title(row));
    drawPicture(made.getContext("2d"), row, 0, 0, 2 * size);
  }
  return made;
}

function title(row) {
  let text = path(row);
  if (!Number.isNaN(data.time[row])) text += ` at ${data.time[row].toFixed(2)} s`;
  if (data.face_index[row] > 0) text += `, face ${data.face_index[row] + 1}`;
  return text;
}

function shown(row) {
  const name = named(data.expression, row);
  return name && !Number.isNaN(data.probability[row]) ? `${name} ${percent(data.probability[row])}` : name;
}

function button(row, size, caption) {
  const made = element("button", "face");
  Object.assign(made, { type: "button", title: title(row) });
  made.dataset.row = row;
  made.style.width = `${size}px`;
  made.append(picture(row, size), element("b", "", shown(row)), element("span", "", caption));
  made.addEventListener("click", () => select(row));
  return made;
}

function showTip(row, event) {
  const tip = at("tip");
  tip.hidden = row < 0;
  if (row < 0) return;
  tip.replaceChildren(picture(row, 128), element("b", "", shown(row)), element("div", "path", title(row)));
  const beyond = event.clientX + 16 + tip.offsetWidth > innerWidth;
  tip.style.left = `${Math.max(0, beyond ? event.clientX - tip.offsetWidth - 16 : event.clientX + 16)}px`;
  tip.style.top = `${Math.max(8, Math.min(event.clientY - 60, innerHeight - tip.offsetHeight - 8))}px`;
}
