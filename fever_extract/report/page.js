"use strict";
// What Python found out (report.py), drawn. Names of files and columns come from outside: they reach
// the page through textContent, and plotly, which reads some HTML, through plain().

const data = JSON.parse(document.getElementById("data").textContent);
const count = data.path.length;
const at = (id) => document.getElementById(id);
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const range = (n) => Array.from({ length: n }, (_, index) => index);
const percent = (value) => `${Math.round(100 * value)}%`;
const counted = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

const COLORS = {
  __proto__: null,  // a label may be called so, or "constructor"
  neutral: "#98a2b3", happiness: "#f4b000", surprise: "#12a8b8", sadness: "#3568d4",
  anger: "#d92d20", disgust: "#5f9f33", fear: "#7a4bc2", contempt: "#c2649a", "(other)": "#c0c4cc",
};
const hue = (name, index) => COLORS[name] ?? `hsl(${(index * 137.5 + 210) % 360}, 62%, 50%)`;
const FONT = { family: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", color: "#1f2430" };
const LAYOUT = { font: FONT, paper_bgcolor: "#fff", plot_bgcolor: "#fff", hovermode: "closest" };
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Faces as pictures

const sheets = (data.pictures?.sheets ?? []).map((source) => {
  const sheet = new Image();
  sheet.src = source;
  return sheet;
});

function picture(face, size) {
  const slot = data.pictures ? data.pictures.slots[face] : -1;
  if (slot < 0) {
    const none = element("div", "no-picture", "no picture");
    none.style.width = none.style.height = `${size}px`;
    return none;
  }
  const { side, across, per_sheet: perSheet } = data.pictures;
  const canvas = element("canvas");
  canvas.width = canvas.height = 2 * size;  // sharp on dense screens
  canvas.style.width = canvas.style.height = `${size}px`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", title(face));
  const sheet = sheets[Math.floor(slot / perSheet)];
  const place = slot % perSheet;
  sheet.decode().then(() => canvas.getContext("2d").drawImage(
    sheet, (place % across) * side, Math.floor(place / across) * side, side, side, 0, 0, 2 * size, 2 * size));
  return canvas;
}

function title(face) {
  let text = data.path[face];
  if (data.time[face] !== null) text += ` at ${data.time[face].toFixed(2)} s`;
  if (data.face_index[face] > 0) text += `, face ${data.face_index[face] + 1}`;
  return text;
}

const shown = (face) => data.expression[face]
  ? `${data.expression[face]} ${percent(data.probability[face] ?? 0)}` : "";

function button(face, size, caption) {
  const made = element("button", "face");
  made.type = "button";
  made.dataset.face = face;
  made.title = title(face);
  made.style.width = `${size}px`;
  made.append(picture(face, size), element("b", "", shown(face)), element("span", "", caption));
  made.addEventListener("click", () => select(face));
  return made;
}

const tip = at("tip");

function showTip(face, event) {
  tip.replaceChildren(picture(face, 128), element("b", "", shown(face)), element("div", "path", title(face)));
  tip.hidden = false;
  const left = event.clientX + 16 + tip.offsetWidth > innerWidth ? event.clientX - tip.offsetWidth - 16 : event.clientX + 16;
  tip.style.left = `${left}px`;
  tip.style.top = `${Math.max(8, Math.min(event.clientY - 60, innerHeight - tip.offsetHeight - 8))}px`;
}

// Map

const webgl = Boolean(document.createElement("canvas").getContext("webgl"));
const KIND = count > 2000 && webgl ? "scattergl" : "scatter";
const SIZE = count > 5000 ? 5 : count > 500 ? 7 : 11;
let selected = null;

function points(faces, more, marker) {
  return {
    type: KIND, mode: "markers", hoverinfo: "none", x: faces.map((face) => data.x[face]),
    y: faces.map((face) => data.y[face]), customdata: faces,
    marker: { size: SIZE, opacity: 0.85, line: { width: KIND === "scatter" ? 1 : 0, color: "#fff" }, ...marker }, ...more,
  };
}

function traces(name) {
  const column = data.columns[name];
  if (!column) return [points(range(count), { showlegend: false }, { color: "#3568d4" })];
  if (column.numbers) {
    const known = range(count).filter((face) => column.numbers[face] !== null);
    const unknown = range(count).filter((face) => column.numbers[face] === null);
    return [
      points(unknown, { name: "none", showlegend: unknown.length > 0 }, { color: "#d0d5dd" }),
      points(known, { showlegend: false }, {
        color: known.map((face) => column.numbers[face]), colorscale: "Viridis", showscale: true,
        colorbar: { title: { text: plain(name) }, thickness: 14, outlinewidth: 0 },
      }),
    ];
  }
  const groups = column.names.map(() => []);
  column.codes.forEach((code, face) => groups[code].push(face));
  return column.names.map((text, index) =>
    points(groups[index], { name: `${plain(text)} (${groups[index].length})`, showlegend: true }, { color: hue(text, index) }));
}

function drawMap() {
  const ring = (faces, color, width) => ({
    ...points(faces, { showlegend: false, hoverinfo: "skip" },
      { size: SIZE + 7, opacity: 1, color, line: { width, color } }),
    marker: { size: SIZE + 7, symbol: "circle-open", color, line: { width, color } },
  });
  const near = selected === null ? [] : data.neighbours[selected];
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: "" };
  return Plotly.react("map", [
    ...traces(at("color").value),
    ring(near, "#1f2430", 1.5),
    ring(selected === null ? [] : [selected], "#d6336c", 3),
  ], {
    ...LAYOUT, margin: { l: 12, r: 12, t: 12, b: 12 }, xaxis: axis, yaxis: { ...axis },
    uirevision: "keep", legend: { itemsizing: "constant", y: 0.94 }, dragmode: "pan",
  }, { ...CONFIG, scrollZoom: true });
}

function select(face) {
  selected = face;
  const near = element("div", "faces");
  near.id = "neighbours";
  near.append(...data.neighbours[face].map((other) => button(other, 88, "")));
  at("panel").replaceChildren(
    picture(face, 200), element("h3", "", shown(face)), element("div", "path", title(face)),
    element("p", "hint", `Strangeness ${data.strangeness[face].toFixed(3)}. Most like it, nearest first:`), near);
  at("panel").dataset.face = face;
  drawMap();
}

// Course over time

function courses() {
  const found = new Map();
  for (const face of range(count)) {
    if (data.time[face] === null) continue;
    const track = data.track[face] ?? -1;
    const name = data.path[face] + (track < 0 ? ", no track" : `, face ${track}`);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(face);
  }
  for (const faces of found.values()) faces.sort((a, b) => data.time[a] - data.time[b]);
  return new Map([...found].sort((a, b) => b[1].length - a[1].length));
}

function stretches(faces) {
  // Where the face was away, the curves are broken, not drawn through.
  const steps = faces.slice(1).map((face, index) => data.time[face] - data.time[faces[index]]);
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)];
  const parts = [[]];
  faces.forEach((face, index) => {
    if (index && steps[index - 1] > 3 * usual) parts.push([]);
    parts.at(-1).push(face);
  });
  return parts;
}

function drawCourse(faces) {
  const areas = data.probabilities && data.expressions.length === data.probabilities.length;
  const names = areas ? data.expressions : [...new Set(faces.map((face) => data.expression[face]))];
  const drawn = areas
    ? stretches(faces).flatMap((part, number) => names.map((name, index) => ({
      x: part.map((face) => data.time[face]), y: part.map((face) => data.probabilities[index][face]),
      customdata: part, name: plain(name), legendgroup: `class ${index}`, showlegend: number === 0, hoverinfo: "none",
      stackgroup: `part ${number}`, mode: "lines", line: { width: 0.5, color: hue(name, index) }, fillcolor: hue(name, index),
    })))
    : names.map((name, index) => {
      const part = faces.filter((face) => data.expression[face] === name);
      return {
        x: part.map((face) => data.time[face]), y: part.map((face) => data.probability[face]), customdata: part,
        name: plain(name), mode: "markers", marker: { color: hue(name, index) }, hoverinfo: "none",
      };
    });
  Plotly.react("course", drawn, {
    ...LAYOUT, margin: { l: 52, r: 12, t: 8, b: 40 }, hovermode: "closest",
    xaxis: { title: { text: "seconds" }, zeroline: false }, yaxis: { range: [0, 1], tickformat: ".0%", zeroline: false },
    legend: { traceorder: "normal" },
  }, { ...CONFIG, displayModeBar: false });
  const several = Math.min(10, faces.length);
  const chosen = range(several).map((index) => faces[Math.round((index * (faces.length - 1)) / Math.max(several - 1, 1))]);
  at("course-faces").replaceChildren(...chosen.map((face) => button(face, 96, `${data.time[face].toFixed(1)} s`)));
}

function listen(id) {
  at(id).on("plotly_hover", (hover) => {
    const face = hover.points[0].customdata;
    if (typeof face === "number") showTip(face, hover.event);
  });
  at(id).on("plotly_unhover", () => { tip.hidden = true; });
  at(id).on("plotly_click", (click) => {
    const face = click.points[0].customdata;
    if (typeof face === "number") select(face);
  });
}

// The rest

function bars(id, counts, color) {
  const names = counts.map(([name]) => plain(name));
  const numbers = counts.map(([, number]) => number);
  at(id).style.height = `${40 * counts.length + 24}px`;
  Plotly.newPlot(id, [{
    type: "bar", orientation: "h", x: numbers, y: range(counts.length), text: numbers.map((n) => n.toLocaleString("en")),
    textposition: "outside", cliponaxis: false, hoverinfo: "none", marker: { color: counts.map(color) },
  }], {
    ...LAYOUT, margin: { l: 110, r: 60, t: 4, b: 4 }, bargap: 0.35, xaxis: { visible: false, fixedrange: true },
    yaxis: { autorange: "reversed", ticks: "", fixedrange: true, tickvals: range(counts.length), ticktext: names },
  }, { ...CONFIG, displayModeBar: false });
}

function options(id, names) {
  at(id).replaceChildren(...names.map((name) => new Option(name, name)));
}

function write() {
  const missing = data.pictures ? data.pictures.slots.filter((slot) => slot < 0).length : 0;
  const timed = data.time.filter((time) => time !== null).length;
  const inputs = !timed ? ["image", "images"] : timed === count ? ["frame", "frames"] : ["image or frame", "images and frames"];
  at("summary").textContent = `${counted(data.faces, "face", "faces")} in ${counted(data.inputs, ...inputs)}`;
  at("notes").textContent = [
    count < data.faces ? `Shown are ${counted(count, "face", "faces")}, drawn at random.` : "",
    data.pictures ? "" : "No pictures of faces: fever-extract report --photos FOLDER adds them.",
    missing ? `${counted(missing, "face has", "faces have")} no picture: the photograph was not found or can't be read.` : "",
  ].filter(Boolean).join(" ");
  at("map-hint").textContent = count
    ? `Faces with like vectors lie near each other (${data.method}; the axes mean nothing). Scroll to zoom, drag to move.`
    : "There is no face in this table.";
  bars("statuses", data.statuses, ([name]) => (name === "ok" ? "#2e9e6b" : "#e07a3f"));
  bars("expressions", data.expression_counts, ([name], index) => hue(name, index));
  at("strangest").append(...data.strangest.map((face) => button(face, 96, data.strangeness[face].toFixed(3))));
  at("strangest-section").hidden = count < 3;
  at("failures-section").hidden = data.failures_in_all === 0;
  at("failures-hint").textContent = data.failures.length < data.failures_in_all
    ? `The first ${data.failures.length} of ${data.failures_in_all}; the table has them all.` : "";
  at("failures").append(...data.failures.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element("td", "", cell)));
    return row;
  }));
  at("settings").append(...data.settings.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

async function main() {
  write();
  const found = courses();
  if (found.size) {
    at("course-section").hidden = false;
    options("course-choice", [...found.keys()]);
    at("course-choice").addEventListener("change", (event) => drawCourse(found.get(event.target.value)));
    drawCourse(found.values().next().value);
    listen("course");
  }
  options("color", Object.keys(data.columns));
  at("color").value = data.color;
  at("color").addEventListener("change", drawMap);
  await drawMap();
  listen("map");
  document.body.dataset.ready = "true";
}

main();
