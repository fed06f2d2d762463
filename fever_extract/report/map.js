// Map

const FEW = 150;  // faces in sight up to which they are pictures
let selected = -1;
let paints = [];  // each row's colour
let pictureSide = 0;  // of the map's pictures; 0 where it has dots
const view = new View("map", drawMap, nearestOnMap, { margin: { left: 24, right: 24, top: 24, bottom: 24 }, vertical: true });

function colorMap() {
  const column = data.columns[at("color").value];
  const legend = [];
  const entry = (color, text) => {
    const made = element("span", "", text);
    made.prepend(element("i"));
    made.firstChild.style.background = color;
    legend.push(made);
  };
  if (column?.numbers) {
    const known = faces.map((row) => column.numbers[row]).filter(Number.isFinite).sort((a, b) => a - b);
    const [low, high] = [known[Math.floor(0.01 * known.length)] ?? 0, known[Math.ceil(0.99 * known.length) - 1] ?? 0];
    paints = Array.from(column.numbers, (value) => (Number.isNaN(value) ? "#d0d5dd"
      : VIRIDIS[Math.max(0, Math.min(5, Math.round((5 * (value - low)) / (high - low || 1))))]));
    VIRIDIS.forEach((color, index) => entry(color, number(low + (index / 5) * (high - low))));
  } else if (column) {
    const numbers = column.names.map(() => 0);
    for (const row of faces) numbers[column.codes[row]] += 1;
    const colors = column.names.map(hue);
    paints = Array.from(column.codes, (code) => colors[code]);
    column.names.forEach((name, index) => { if (numbers[index]) entry(colors[index], `${name} (${numbers[index]})`); });
  }
  at("map-legend").replaceChildren(...legend);
  view.ask();
}

function drawMap(context) {
  const [width, height] = [view.canvas.clientWidth, view.canvas.clientHeight];
  const seen = faces.filter((row) => {
    const [x, y] = [view.x(data.x[row]), view.y(data.y[row])];
    return x > 0 && x < width && y > 0 && y < height;
  });
  pictureSide = data.pictures && seen.length <= FEW
    ? Math.max(28, Math.min(88, 0.6 * Math.sqrt((width * height) / Math.max(1, seen.length)))) : 0;
  const dot = seen.length > 5000 ? 2.5 : seen.length > 500 ? 3.5 : 5.5;
  const radius = pictureSide / 2 || dot;
  drawDots(context, seen.filter((row) => !pictureSide || !hasPicture(row)), dot);
  const kept = new Set(seen);
  const last = selected < 0 ? [] : [...neighbours(selected), selected].filter((row) => kept.has(row));  // drawn over the others
  for (const row of pictureSide ? [...seen, ...last] : []) {
    if (!hasPicture(row)) continue;
    const [x, y] = [view.x(data.x[row]) - radius, view.y(data.y[row]) - radius];
    drawPicture(context, row, x, y, pictureSide);
    Object.assign(context, { strokeStyle: paints[row] ?? ink("blue"), lineWidth: 3 });
    context.strokeRect(x, y, pictureSide, pictureSide);
  }
  for (const row of last) {
    const [x, y] = [view.x(data.x[row]), view.y(data.y[row])];
    Object.assign(context, { strokeStyle: ink(row === selected ? "mark" : "ink"), lineWidth: row === selected ? 3.5 : 2 });
    context.beginPath();
    if (pictureSide) context.rect(x - radius - 3, y - radius - 3, pictureSide + 6, pictureSide + 6);
    else context.arc(x, y, radius + 4, 0, 2 * Math.PI);
    context.stroke();
  }
}

function drawDots(context, rows, radius) {
  // Pixel by pixel: of a hundred thousand dots this takes a fiftieth of the canvas's own time.
  const { width, height } = view.canvas;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const reach = Math.ceil(radius * view.scale);
  const stamp = [];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const alpha = Math.round(255 * Math.max(0, Math.min(1, radius * view.scale - Math.hypot(dx, dy) + 0.5)));
      if (alpha) stamp.push([dx, dy, alpha]);
    }
  }
  const codes = new Map();
  const code = (color) => {  // as red, green and blue from the lowest byte up
    context.fillStyle = color;
    return [1, 3, 5].reduce((sum, start, index) => sum + parseInt(context.fillStyle.slice(start, start + 2), 16) * 256 ** index, 0);
  };
  for (const row of rows) {
    const color = paints[row] ?? ink("blue");
    if (!codes.has(color)) codes.set(color, code(color));
    const rgb = codes.get(color);
    const [x, y] = [Math.round(view.x(data.x[row]) * view.scale), Math.round(view.y(data.y[row]) * view.scale)];
    for (const [dx, dy, alpha] of stamp) {
      const place = (y + dy) * width + x + dx;
      if (x + dx >= 0 && x + dx < width && alpha >= pixels[place] >>> 24) pixels[place] = ((alpha << 24) | rgb) >>> 0;
    }
  }
  context.putImageData(image, 0, 0);
}

function nearestOnMap(x, y) {
  let [best, reach] = [-1, Math.max(10, pictureSide / 2) ** 2];
  for (const row of faces) {
    const distance = (view.x(data.x[row]) - x) ** 2 + (view.y(data.y[row]) - y) ** 2;
    if (distance <= reach) [best, reach] = [row, distance];
  }
  return best;
}

const neighbours = (row) => [...data.neighbours.subarray(row * data.near, (row + 1) * data.near)].filter((other) => other >= 0);

function select(row) {
  selected = row;
  const near = element("div", "faces");
  near.id = "neighbours";
  const kept = new Set(faces);
  const [all, some] = [neighbours(row), neighbours(row).filter((other) => kept.has(other))];
  near.append(...some.map((other) => button(other, 88, "")));
  const hidden = all.length > some.length ? ` (${all.length - some.length} more are filtered out)` : "";
  at("panel").replaceChildren(picture(row, 200), element("h3", "", shown(row)), element("div", "path", title(row)),
    ...(all.length ? [element("p", "hint", `Strangeness ${data.strangeness[row].toFixed(3)}. Most like it, nearest first${hidden}:`), near] : []));
  at("panel").dataset.row = row;
  view.ask();
}
