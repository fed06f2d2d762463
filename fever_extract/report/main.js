// Filters: they act on all that follows

const BOUNDS = [
  ["max", "yaw", "Yaw° up to"], ["max", "pitch", "Pitch° up to"], ["min", "sharpness", "Sharpness from"],
  ["min", "face_size", "Pixels from"], ["min", "score", "Score from"],
].filter(([, name]) => data.columns[name]?.numbers);
const extent = (values) => values.reduce(([low, high], value) =>
  (Number.isFinite(value) ? [Math.min(low, value), Math.max(high, value)] : [low, high]), [Infinity, -Infinity]);
let passing = [];  // rows
let faces = [];  // those of them that have an embedding

function makeFilters() {
  const folders = new Set();
  for (const name of data.folder.names) {
    name.split("/").forEach((_, index, parts) => folders.add(parts.slice(0, index + 1).join("/")));
  }
  folders.delete("");  // before the first slash of an absolute path
  const sorted = [...folders].sort();
  options("folder", ["", ...sorted], ["all", ...sorted.map((name) => (name === "." ? "(not in a folder)" : name))]);
  options("status", ["", ...data.status.names], ["all", ...data.status.names]);
  for (const [bound, name, text] of BOUNDS) {
    const label = element("label", "", text);
    const values = data.columns[name].numbers;
    const [low, high] = extent(bound === "max" ? values.map(Math.abs) : values);
    label.append(Object.assign(element("input"), {  // the bound that all meet is shown until one is given
      type: "number", id: `${bound}_${name}`, step: "any", placeholder: number(bound === "max" ? high : low),
    }));
    at("filters").insertBefore(label, at("filters").querySelector("button"));
  }
  // Not on the change of a number, which comes with the next click: what is clicked would be replaced.
  for (const field of at("filters").querySelectorAll("select, input")) {
    field.addEventListener(field.tagName === "SELECT" ? "change" : "input", update);
  }
  at("filters").addEventListener("reset", () => setTimeout(update));
  at("filters").addEventListener("submit", (event) => event.preventDefault());
}

function filter() {
  const [folder, status] = [at("folder").value, at("status").value];
  const inside = data.folder.names.map((name) => !folder || name === folder || name.startsWith(`${folder}/`));
  const right = data.status.names.map((name) => !status || name === status);
  const bounds = BOUNDS.map(([bound, name]) => [bound, name, at(`${bound}_${name}`).value]).filter(([, , value]) => value !== "");
  const tests = bounds.map(([bound, name, value]) => {
    const values = data.columns[name].numbers;  // angles to either side; what is NaN meets no bound
    return bound === "max" ? (row) => Math.abs(values[row]) <= value : (row) => values[row] >= value;
  });
  passing = range(count).filter((row) =>
    inside[data.folder.codes[row]] && right[data.status.codes[row]] && tests.every((test) => test(row)));
  faces = passing.filter((row) => data.face[row]);
  const where = [...(status ? [`status="${status}"`] : []), ...bounds.map(([bound, name, value]) => `${bound}_${name}=${value}`)];
  at("passing").textContent = passing.length === count ? ""
    : `${counted(faces.length, "face passes", "faces pass")}${where.length ? `; in Python: table.where(${where.join(", ")})` : ""}`;
}

// Counts, the strangest faces, failures

function bars(id, counts, color) {
  const most = Math.max(...counts.map(([, n]) => n));
  at(id).replaceChildren(...counts.flatMap(([name, n], index) => {
    const bar = element("i");
    Object.assign(bar.style, { width: `${(100 * n) / most}%`, background: color(name, index) });
    return [element("span", "", name), bar, element("span", "", n.toLocaleString("en"))];
  }));
}

function tally(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

const strangest = range(count).filter((row) => data.strangeness[row] >= 0).sort((a, b) => data.strangeness[b] - data.strangeness[a]);
const NO_GROUPS = ["folder", "expression", "face_index", "track", "detected"];
const FAILURES = 1000;  // listed

// A clip's successive frames that fail alike, as [first, last].
function runs(rows) {
  const found = [];
  for (const row of rows) {
    const last = found.at(-1)?.[1];
    const alike = last === row - 1 && data.path.codes[last] === data.path.codes[row] && !Number.isNaN(data.time[row])
      && data.status.codes[last] === data.status.codes[row] && data.errors[last] === data.errors[row];
    if (alike) found.at(-1)[1] = row;
    else found.push([row, row]);
  }
  return found;
}

function update() {
  filter();
  const inputs = new Map(passing.map((row) => [data.input[row], row]));  // a photograph may have several faces
  const timed = passing.filter((row) => !Number.isNaN(data.time[row])).length;
  const words = !timed ? ["image", "images"] : timed === passing.length ? ["frame", "frames"] : ["image or frame", "images and frames"];
  at("summary").textContent = `${counted(faces.length, "face", "faces")} in ${counted(inputs.size, ...words)}`;
  bars("statuses", tally([...inputs.values()].map((row) => named(data.status, row))), (name) => (name === "ok" ? "#2e9e6b" : "#e07a3f"));
  bars("expressions", tally(faces.map((row) => named(data.expression, row)).filter(Boolean)), hue);
  const kept = new Set(faces);
  const alike = new Map();
  for (const row of strangest) {
    if (!kept.has(row)) continue;
    if (!alike.has(data.group[row])) alike.set(data.group[row], []);
    alike.get(data.group[row]).push(row);
  }
  at("strangest").replaceChildren(...[...alike.values()].slice(0, 24).map((rows) =>
    button(rows[0], 96, data.strangeness[rows[0]].toFixed(3) + (rows.length > 1 ? `, ${rows.length} alike` : ""))));
  const failures = passing.filter((row) => named(data.status, row) !== "ok");
  at("failures-section").hidden = !failures.length;
  const grouped = runs(failures);
  at("failures-hint").textContent = grouped.length > FAILURES ? `The first ${FAILURES} of ${grouped.length}; the table has them all.` : "";
  at("failures").replaceChildren(...grouped.slice(0, FAILURES).map(([first, last]) => {
    const times = [...new Set([first, last])].map((row) => data.time[row].toFixed(2)).join(" to ");
    const line = element("tr");
    const where = Number.isNaN(data.time[first]) ? "" : `, ${times} s`;
    line.append(...[path(first) + where, named(data.status, first), data.errors[first] ?? ""].map((text) => element("td", "", text)));
    return line;
  }));
  colorMap();
  if (!at("confusion-section").hidden) crossTable();
  if (courses.size) chooseCourse();
  if (selected >= 0) select(selected);
}

async function main() {
  await Promise.all(sheets.map((sheet) => sheet.decode()));
  const missing = data.pictures ? range(count).filter((row) => data.face[row] && !hasPicture(row)).length : 0;
  at("notes").textContent = [
    data.of > count ? `A random sample of ${count.toLocaleString("en")} of the table's ${data.of.toLocaleString("en")} rows; all numbers are of the sample.` : "",
    data.pictures ? "" : "No pictures of faces: fever-extract report --photos FOLDER adds them.",
    missing ? `${counted(missing, "face has", "faces have")} no picture: ${data.pictures.left_out ? "there are too many, or " : ""}the photograph was not found or can't be read.` : "",
  ].filter(Boolean).join(" ");
  at("map-hint").textContent = data.method
    ? `Faces with like embeddings lie near each other (${data.method}; the axes mean nothing). Scroll to zoom, drag to move.`
    : "There is no face in this table, or it was made without embeddings.";
  at("settings").append(...data.settings.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
  at("strangest-section").hidden = strangest.length < 3;
  at("course-section").hidden = !courses.size;
  const groups = Object.keys(data.columns).filter((name) => data.columns[name].names && !NO_GROUPS.includes(name));
  if (data.folder.names.length > 1) groups.unshift("folder");
  at("confusion-section").hidden = !groups.length;
  options("confusion-rows", groups);
  options("color", Object.keys(data.columns));
  at("color").value = data.color;
  options("course-choice", [...courses.keys()]);
  at("course-legend").append(...data.expressions.map((name, index) => {
    const made = element("span", "", name);
    made.prepend(element("i"));
    made.firstChild.style.background = hue(name, index);
    return made;
  }));
  makeFilters();
  at("color").addEventListener("change", colorMap);
  at("confusion-rows").addEventListener("change", crossTable);
  at("course-choice").addEventListener("change", chooseCourse);
  at("course-csv").addEventListener("click", () => download("course.csv", courseCsv()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  const [xs, ys] = [data.x, data.y].map(extent);
  if (xs[0] <= xs[1]) view.show(...[xs, ys].map(([low, high]) => [low - 0.5 * (low === high), high + 0.5 * (low === high)]));
  update();
  requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = "true"; }));
}

main();
