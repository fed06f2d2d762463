// A canvas and its window onto the data, [low, high] in each direction: moved by dragging, scaled by buttons

class View {
  constructor(id, draw, nearest, { margin, vertical }) {
    Object.assign(this, { canvas: at(id), draw, margin, vertical, across: [0, 1], down: [0, 1], waiting: false, width: 1, height: 1 });
    const tools = element("div", "tools");
    for (const [text, label, factor] of [["+", "Zoom in", 1 / 1.5], ["−", "Zoom out", 1.5], ["all", "Show all", Infinity]]) {
      const tool = Object.assign(element("button", "", text), { type: "button", title: label });
      tool.addEventListener("click", () => this.zoom(factor));
      tools.append(tool);
    }
    this.canvas.after(tools);
    let last = null;
    let dragged = false;
    const on = (name, listener, settings) => this.canvas.addEventListener(name, listener, settings);
    on("pointerdown", (event) => { last = event; dragged = false; });
    on("pointermove", (event) => {
      if (last && event.buttons && (dragged || Math.hypot(event.offsetX - last.offsetX, event.offsetY - last.offsetY) > 4)) {
        this.canvas.setPointerCapture(event.pointerId);
        this.move(event.offsetX - last.offsetX, event.offsetY - last.offsetY);
        [last, dragged] = [event, true];
      }
      showTip(event.buttons ? -1 : nearest(event.offsetX, event.offsetY), event);
    });
    on("click", (event) => {
      const row = dragged ? -1 : nearest(event.offsetX, event.offsetY);
      if (row >= 0) select(row);
    });
    on("pointerleave", () => { at("tip").hidden = true; });
    if (vertical) {
      on("wheel", (event) => {
        event.preventDefault();
        this.zoom(1.15 ** Math.sign(event.deltaY), event.offsetX, event.offsetY);
      }, { passive: false });
    }
    new ResizeObserver(() => this.ask()).observe(this.canvas);
  }

  x(value) { return this.margin.left + ((value - this.across[0]) / (this.across[1] - this.across[0])) * this.width; }
  y(value) { return this.margin.top + ((this.down[1] - value) / (this.down[1] - this.down[0])) * this.height; }

  show(across, down) {
    Object.assign(this, { across, down, whole: { across, down } });
    this.ask();
  }

  zoom(factor, x = this.margin.left + this.width / 2, y = this.margin.top + this.height / 2) {
    const scaled = ([low, high], share) => {
      const middle = low + (high - low) * share;
      return [middle + (low - middle) * factor, middle + (high - middle) * factor];
    };
    if (factor === Infinity) Object.assign(this, this.whole);
    else {
      this.across = scaled(this.across, (x - this.margin.left) / this.width);
      if (this.vertical) this.down = scaled(this.down, 1 - (y - this.margin.top) / this.height);
    }
    this.ask();
  }

  move(dx, dy) {
    const moved = ([low, high], share) => [low - (high - low) * share, high - (high - low) * share];
    this.across = moved(this.across, dx / this.width);
    if (this.vertical) this.down = moved(this.down, -dy / this.height);
    this.ask();
  }

  ask() {
    if (!this.waiting) requestAnimationFrame(() => { this.waiting = false; this.paint(); });
    this.waiting = true;
  }

  paint() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!width || !height) return;
    this.width = width - this.margin.left - this.margin.right;  // kept: to ask the canvas for each point is slow
    this.height = height - this.margin.top - this.margin.bottom;
    this.scale = devicePixelRatio;
    [this.canvas.width, this.canvas.height] = [Math.round(width * this.scale), Math.round(height * this.scale)];
    const context = this.canvas.getContext("2d");
    context.scale(this.scale, this.scale);
    this.draw(context);
  }
}
