// Course over time

const courses = findCourses();
const course = new View("course", drawCourse, nearestInTime, { margin: { left: 44, right: 12, top: 44, bottom: 40 }, vertical: false });
const STRIP = 80;  // width of a face below the course
let followed = [];  // rows of the chosen face that pass, in time

function findCourses() {
  const found = new Map();
  for (const row of range(count)) {
    if (Number.isNaN(data.time[row]) || !data.face[row]) continue;
    const name = path(row) + (data.track[row] < 0 ? ", no track" : `, face ${data.track[row]}`);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  for (const rows of found.values()) rows.sort((a, b) => data.time[a] - data.time[b]);
  return new Map([...found].sort((a, b) => b[1].length - a[1].length));
}

// A table without probabilities has that of the named expression.
const probability = (row, index) => (data.probabilities ? data.probabilities[row * data.expressions.length + index]
  : named(data.expression, row) === data.expressions[index] ? data.probability[row] : 0);

function chooseCourse() {
  const kept = new Set(faces);
  followed = (courses.get(at("course-choice").value) ?? []).filter((row) => kept.has(row));
  const times = [data.time[followed[0]] ?? 0, data.time[followed.at(-1)] ?? 1];
  course.show([times[0], Math.max(times[1], times[0] + 0.04)], [0, 1]);
}

function stretches() {
  // Where the face was away, the curves are broken, not drawn through.
  const steps = followed.slice(1).map((row, index) => data.time[row] - data.time[followed[index]]);
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)];
  const parts = [[]];
  followed.forEach((row, index) => {
    if (index && steps[index - 1] > 3 * usual) parts.push([]);
    parts.at(-1).push(row);
  });
  return parts;
}

function drawCourse(context) {
  const [left, top, bottom] = [course.margin.left, course.margin.top, course.margin.top + course.height];
  context.save();
  context.beginPath();
  context.rect(left, top, course.width, course.height);
  context.clip();
  for (const part of stretches()) {
    const floor = part.map(() => 0);
    data.expressions.forEach((name, index) => {
      context.fillStyle = context.strokeStyle = hue(name, index);
      context.beginPath();
      part.forEach((row, place) => context.lineTo(course.x(data.time[row]), course.y(floor[place])));
      for (let place = part.length - 1; place >= 0; place -= 1) {
        floor[place] += probability(part[place], index) || 0;
        context.lineTo(course.x(data.time[part[place]]), course.y(floor[place]));
      }
      context.fill();
      context.stroke();  // or the paper shows through between two areas
    });
  }
  context.restore();
  Object.assign(context, { fillStyle: ink("quiet"), font: "12px system-ui, 'DejaVu Sans', sans-serif", textAlign: "right", textBaseline: "middle" });
  for (const share of [0, 0.5, 1]) context.fillText(percent(share), left - 6, Math.max(8, course.y(share)));
  context.textAlign = "center";
  const rough = ((course.across[1] - course.across[0]) * 70) / course.width;  // seconds between ticks, at least
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  for (let tick = Math.ceil(course.across[0] / step - 1e-9); tick * step <= course.across[1] + 1e-9; tick += 1) {
    context.fillRect(course.x(tick * step), bottom, 1, 5);
    context.fillText((tick * step).toFixed(digits), course.x(tick * step), bottom + 14);
  }
  context.fillText("seconds", left + course.width / 2, bottom + 31);
  drawStrip();
}

function drawStrip() {
  // Faces below their time: of each stretch as wide as a face, the one nearest to its middle.
  const strip = [];
  let last = -Infinity;
  for (let middle = course.margin.left + STRIP / 2; middle + STRIP / 2 <= course.canvas.clientWidth; middle += STRIP + 4) {
    const row = nearestInTime(middle, 0, STRIP / 2);
    const x = row < 0 ? 0 : course.x(data.time[row]);
    if (row < 0 || x - last < STRIP) continue;
    const made = button(row, STRIP, `${data.time[row].toFixed(2)} s`);
    made.style.left = `${x - STRIP / 2}px`;
    strip.push(made);
    last = x;
  }
  at("course-faces").replaceChildren(...strip);
}

function nearestInTime(x, _, reach = 12) {
  let best = -1;
  for (const row of followed) {
    const distance = Math.abs(course.x(data.time[row]) - x);
    if (distance <= reach) [best, reach] = [row, distance];
  }
  return best;
}

function courseCsv() {
  // A text that a spreadsheet would take for a formula is written as in our csv tables.
  const cell = (text) => {
    const harmless = /^[=+\-@\t\r\n]/.test(text) ? `\\x${text.charCodeAt(0).toString(16).padStart(2, "0")}${text.slice(1)}` : text;
    return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  const known = (value) => (Number.isFinite(value) ? Number(value.toPrecision(6)) : "");
  const lines = followed.map((row) => [cell(path(row)), known(data.time[row]), data.track[row], cell(named(data.expression, row)),
    ...range(data.expressions.length).map((index) => known(probability(row, index)))]);
  const header = ["path", "time", "track", "expression", ...data.expressions.map((name) => cell(`p_${name}`))];
  return [header, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

function download(name, text) {
  const link = Object.assign(element("a"), { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href));
}
