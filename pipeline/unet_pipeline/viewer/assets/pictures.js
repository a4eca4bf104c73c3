// A picture with its layers on a canvas: window, fills, outlines, crosshair, zoom, brush.

class PicturePane {
  constructor(host, onCrosshair) {
    this.canvas = host.appendChild(document.createElement("canvas"));
    this.onCrosshair = onCrosshair;
    this.zoom = 1;
    this.centre = null; // of the view, in pixels of the picture
    this.brush = null;
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => event.buttons && this.move(event));
    this.canvas.addEventListener("wheel", (event) => (event.preventDefault(), this.zoomAt(event, event.deltaY < 0 ? 1.2 : 1 / 1.2)), { passive: false });
    this.canvas.addEventListener("dblclick", () => this.resetView());
    new ResizeObserver(() => this.draw()).observe(host);
  }

  async load(layers) {
    this.layers = layers;
    this.paths = new Map();
    this.fills = new Map();
    this.brush = null;
    this.resetView();
  }

  resetView() {
    this.zoom = 1;
    this.centre = null;
    this.draw();
  }

  set(view, maps, vox) {
    const window = `${view.low} ${view.high} ${view.channel}`;
    if (window !== this.window || this.shown !== this.layers) this.picture = this.render(view);
    [this.window, this.shown, this.view, this.maps, this.vox] = [window, this.layers, view, maps, vox];
    this.fills.clear();
    this.paths.clear();
    this.draw();
  }

  setCrosshair(vox) {
    this.vox = vox;
    this.draw();
  }

  render({ low, high, channel }) {
    const image = this.layers.images[channel];
    const [width, height] = image.shape;
    const pixels = new ImageData(width, height);
    const area = width * height;
    const scale = 255 / Math.max(high - low, 1e-9);
    for (let place = 0; place < area; place++) {
      for (let part = 0; part < 3; part++) {
        const raw = image.data[image.channels === 3 ? place + part * area : place] * image.slope + image.inter;
        pixels.data[4 * place + part] = (raw - low) * scale;
      }
      pixels.data[4 * place + 3] = 255;
    }
    return toCanvas(pixels);
  }

  // canvas pixels per picture pixel, and where the picture's corner lies
  place() {
    const [width, height] = this.layers.images[0].shape;
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height) * this.zoom;
    const [x, y] = this.centre || [width / 2, height / 2];
    return { scale, left: this.canvas.width / 2 - x * scale, top: this.canvas.height / 2 - y * scale };
  }

  toPixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const { scale, left, top } = this.place();
    return [((event.clientX - box.left) * ratio - left) / scale, ((event.clientY - box.top) * ratio - top) / scale];
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.grip = event.shiftKey || event.button === 1 ? [this.toPixel(event), this.centre || this.middle()] : null;
    if (this.brush && !this.grip) this.brush.remember();
    this.last = null;
    this.move(event);
  }

  middle() {
    const [width, height] = this.layers.images[0].shape;
    return [width / 2, height / 2];
  }

  move(event) {
    if (!this.layers) return;
    const point = this.toPixel(event);
    if (this.grip) {
      const now = this.centre || this.middle();
      this.centre = now.map((value, axis) => value + this.grip[0][axis] - point[axis]);
      return this.draw();
    }
    const [width, height] = this.layers.images[0].shape;
    const inside = [Math.floor(point[0]), Math.floor(point[1])].map((value, axis) => Math.min(Math.max(value, 0), [width, height][axis] - 1));
    if (this.brush) {
      this.brush.stroke(this.last || inside, inside, [width, height]);
      this.last = inside;
      this.fills.delete("brush");
    }
    this.onCrosshair([...inside, 0], this);
  }

  zoomAt(event, factor) {
    const before = event ? this.toPixel(event) : this.vox || this.middle();
    this.zoom = Math.min(Math.max(this.zoom * factor, 1), 60);
    const after = event ? this.toPixel(event) : before;
    const now = this.centre || this.middle();
    this.centre = this.zoom === 1 ? null : event ? now.map((value, axis) => value + before[axis] - after[axis]) : before.slice(0, 2);
    this.draw();
  }

  fillOf(name, colours, indices) {
    if (!this.fills.has(name)) {
      const [width, height] = this.layers.images[0].shape;
      this.fills.set(name, toCanvas(paintIndices(indices, colours, width, height)));
    }
    return this.fills.get(name);
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth * ratio, this.canvas.clientHeight * ratio].map(Math.round);
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    if (!this.picture || !this.maps || this.shown !== this.layers || !width) return;
    this.paint(this.canvas.getContext("2d"), ratio);
  }

  paint(context, ratio) {
    const { scale, left, top } = this.place();
    const [width, height] = this.layers.images[0].shape;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(scale, 0, 0, scale, left, top);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture, 0, 0);
    for (const map of this.maps.filter(({ opacity }) => opacity)) {
      context.globalAlpha = map.opacity;
      if (map.gradient) context.drawImage(toCanvas(paintChances(map.chances(), width, height)), 0, 0);
      else if (map.outlined) this.paintOutline(context, map, width, height, (1.3 * ratio) / scale);
      else context.drawImage(this.fillOf(map.name, map.colours, map.indices), 0, 0);
    }
    context.globalAlpha = 0.6;
    if (this.brush) context.drawImage(this.fillOf("brush", BRUSH_COLOURS, this.brush.indices), 0, 0);
    context.globalAlpha = 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.view.crosshair && this.vox)
      drawCross(context, left + (this.vox[0] + 0.5) * scale, top + (this.vox[1] + 0.5) * scale, left, top, width * scale, height * scale, ratio);
    const spacing = this.view.spacing || 1;
    drawScaleBar(context, this.canvas.width - 10 * ratio, this.canvas.height - 10 * ratio, scale / spacing, this.canvas.width / 4, this.view.unit, ratio);
  }

  paintOutline(context, map, width, height, lineWidth) {
    if (!this.paths.has(map.name)) this.paths.set(map.name, tracePlane((i, j) => map.outlines[i + j * width], width, height));
    strokeOutlines(context, this.paths.get(map.name), map.colours, lineWidth);
  }

  startBrush(brush) {
    this.brush = brush;
    this.fills.delete("brush");
    this.draw();
  }

  undo() {
    this.brush.undo();
    this.fills.delete("brush");
    this.draw();
  }

  readBrush() {
    return this.brush.indices;
  }

  stopBrush() {
    this.brush = null;
    this.draw();
  }

  snapshot() {
    this.draw();
    return this.canvas;
  }
}

const BRUSH_COLOURS = ["#F0E442", "#CC79A7", "#56B4E9", "#E69F00", "#009E73"];

class Brush {
  constructor(indices) {
    [this.indices, this.pen, this.size, this.steps] = [indices, 1, 3, []];
  }

  remember() {
    this.steps.push(this.indices.slice());
    if (this.steps.length > 20) this.steps.shift();
  }

  undo() {
    if (this.steps.length) this.indices.set(this.steps.pop());
  }

  stroke(from, to, [width, height]) {
    const steps = Math.max(1, Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1]));
    const radius = this.size / 2;
    for (let step = 0; step <= steps; step++) {
      const [x, y] = [0, 1].map((axis) => from[axis] + ((to[axis] - from[axis]) * step) / steps);
      for (let j = Math.max(0, Math.ceil(y - radius)); j <= Math.min(height - 1, y + radius); j++)
        for (let i = Math.max(0, Math.ceil(x - radius)); i <= Math.min(width - 1, x + radius); i++)
          if ((i - x) ** 2 + (j - y) ** 2 <= radius ** 2) this.indices[i + j * width] = this.pen;
    }
  }
}

function paintIndices(indices, colours, width, height) {
  const pixels = new ImageData(width, height);
  const table = colours.map(rgb);
  for (let place = 0; place < width * height; place++)
    if (indices[place]) pixels.data.set([...table[(indices[place] - 1) % table.length], 255], 4 * place);
  return pixels;
}

function toCanvas(pixels) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
