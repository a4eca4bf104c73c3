// A volume: NiiVue draws the image's planes, the 3D view and the brush; all else of a plane is drawn above it, as for a picture.

async function loadNiivue() {
  if (window.niivue) return;
  const code = new TextDecoder().decode(await inflate(fromBase64(document.getElementById("niivue-code").textContent)));
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
}

const PLANES = ["axial", "coronal", "sagittal"];
const RENDER = 4; // NiiVue's number of the 3D tile
const LETTERS = [["L", "R"], ["P", "A"], ["I", "S"]]; // at the low and high end of each axis near RAS

class VolumePane {
  constructor(host, onCrosshair) {
    host.classList.add("volume");
    this.canvas = host.appendChild(document.createElement("canvas"));
    this.above = host.appendChild(document.createElement("canvas"));
    this.above.className = "above";
    this.onCrosshair = onCrosshair;
    this.paths = new Map();
  }

  async open() {
    await loadNiivue();
    this.nv = new window.niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairWidth: 0,
      show3Dcrosshair: false,
      dragAndDropEnabled: false,
      isColorbar: false,
      isRadiologicalConvention: true,
      sagittalNoseLeft: false,
      logLevel: "error",
      loadingText: "",
      isOrientationTextVisible: false,
      multiplanarShowRender: 1,
      multiplanarEqualSize: false,
    });
    await this.nv.attachToCanvas(this.canvas);
    const draw = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = (...given) => {
      const drawn = draw(...given);
      this.paint();
      return drawn;
    };
    const update = this.nv.updateGLVolume.bind(this.nv);
    this.nv.updateGLVolume = () => {
      update();
      this.showLabelsIn3D();
    };
    this.nv.onLocationChange = ({ vox }) => {
      if (!this.layers || this.quiet) return;
      const [width, height, depth] = this.layers.images[0].shape;
      this.vox = [width, height, depth].map((size, axis) => Math.min(Math.max(Math.round(vox[axis]), 0), size - 1));
      this.onCrosshair(this.vox, this);
    };
  }

  async load(layers) {
    if (!this.nv) await this.open();
    this.layers = layers;
    this.nv.closeDrawing();
    this.nv.setDrawingEnabled(false);
    this.isDrawing = false;
    this.channel = null;
  }

  async setVolumes(channel, maps) {
    const { NVImage } = window.niivue;
    [...this.nv.volumes].reverse().forEach((volume) => this.nv.removeVolume(volume));
    const image = this.layers.images[channel];
    this.nv.addVolume(await NVImage.new(image.bytes.buffer, "image.nii", "gray", 1));
    this.overlays = new Map();
    for (const map of maps) {
      const volume = await NVImage.new(writeNifti(image, new Uint8Array(map.indices.length)).buffer, `${map.name}.nii`, "gray", 0);
      this.overlays.set(map.name, volume);
      this.nv.addVolume(volume);
    }
    this.channel = channel;
  }

  async set(view, maps, vox) {
    const names = maps.map((map) => map.name).join();
    this.quiet = true;
    if (this.channel !== view.channel || names !== this.names) {
      await this.setVolumes(view.channel, maps);
      this.names = names;
    }
    [this.view, this.maps] = [view, maps];
    this.paths.clear();
    const [image] = this.nv.volumes;
    [image.cal_min, image.cal_max] = [view.low, view.high];
    maps.forEach((map) => this.setOverlay(map));
    this.nv.setInterpolation(true);
    this.arrange(view.plane);
    this.nv.updateGLVolume();
    this.quiet = false;
    this.setCrosshair(vox || this.vox);
  }

  setOverlay(map) {
    const volume = this.overlays.get(map.name);
    volume.img = map.gradient ? map.chances() : map.indices;
    if (map.gradient) {
      volume.colormap = "plasma";
      [volume.cal_min, volume.cal_max] = [1, 255];
    } else {
      const colours = map.colours.map(rgb);
      const most = map.numLabels;
      const part = (channel) => [0, ...Array.from({ length: most }, (_, index) => colours[index % colours.length][channel])];
      volume.setColormapLabel({ R: part(0), G: part(1), B: part(2), A: [0, ...Array(most).fill(255)], I: [...Array(most + 1).keys()] });
    }
    volume.opacity = map.opacity;
  }

  // The 3D view shows the labels, not a block of grey before them; the planes have theirs drawn above.
  showLabelsIn3D() {
    const { gl, sliceMMShader, renderShader } = this.nv;
    sliceMMShader.use(gl);
    gl.uniform1f(sliceMMShader.uniforms.overlays, 0);
    renderShader.use(gl);
    gl.uniform1f(renderShader.uniforms.backOpacity, this.maps?.some((map) => map.opacity) ? 0 : 1);
  }

  arrange(plane) {
    const kinds = { all: 3, axial: 0, coronal: 1, sagittal: 2, "3D": RENDER };
    this.nv.opts.multiplanarShowRender = 1;
    const { clientWidth, clientHeight } = this.canvas;
    const [column, grid, row] = [1, 2, 3]; // of NiiVue's layouts; its own choice leaves half of a usual window black
    this.nv.opts.multiplanarLayout = clientWidth > 2.5 * clientHeight ? row : clientWidth > 0.6 * clientHeight ? grid : column;
    this.nv.opts.sliceType = kinds[plane];
  }

  setCrosshair(vox) {
    if (!vox || !this.nv.volumes.length) return;
    this.vox = vox;
    this.nv.scene.crosshairPos = this.nv.vox2frac(vox);
    this.nv.drawScene();
  }

  // where a tile's corners lie in voxels: NiiVue's own answer, so that flips, zoom and pan are right
  mapTile(tile, place) {
    const [left, top, width, height] = tile.leftTopWidthHeight;
    // two places well inside: a corner may belong to the tile beside it
    const [nearX, nearY, farX, farY] = [left + width / 4, top + height / 4, left + (3 * width) / 4, top + (3 * height) / 4];
    const near = this.nv.screenXY2TextureFrac(nearX, nearY, place, false);
    const far = this.nv.screenXY2TextureFrac(farX, farY, place, false);
    const [across, down] = [[0, 1], [0, 2], [1, 2]][tile.axCorSag];
    const size = this.layers.images[0].shape;
    if (near[across] === far[across] || near[down] === far[down]) return null;
    const scaleX = (farX - nearX) / ((far[across] - near[across]) * size[across]);
    const scaleY = (farY - nearY) / ((far[down] - near[down]) * size[down]);
    const [x, y] = [nearX - near[across] * size[across] * scaleX, nearY - near[down] * size[down] * scaleY];
    return { left, top, width, height, across, down, scaleX, scaleY, x, y };
  }

  paint() {
    const ratio = window.devicePixelRatio || 1;
    if (this.above.width !== this.canvas.width || this.above.height !== this.canvas.height)
      [this.above.width, this.above.height] = [this.canvas.width, this.canvas.height];
    const context = this.above.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.above.width, this.above.height);
    if (!this.layers || !this.vox || !this.maps || this.quiet) return;
    this.nv.screenSlices.forEach((tile, place) => {
      const map = tile.axCorSag < 3 ? this.mapTile(tile, place) : null;
      if (map) this.paintTile(context, tile.axCorSag, map, ratio);
    });
  }

  paintTile(context, plane, tile, ratio) {
    const { left, top, width, height, across, down, scaleX, scaleY, x, y } = tile;
    const through = 3 - across - down;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.imageSmoothingEnabled = false;
    const place = new DOMMatrix([scaleX, 0, 0, scaleY, x, y]);
    for (const map of this.maps.filter(({ opacity }) => opacity)) {
      context.globalAlpha = map.opacity;
      const drawn = this.drawPlane(map, across, down, through);
      if (map.outlined) strokeOutlines(context, placePaths(drawn, place), map.colours, 1.3 * ratio);
      else {
        context.setTransform(place);
        context.drawImage(drawn, 0, 0);
        context.setTransform(1, 0, 0, 1, 0, 0);
      }
    }
    context.globalAlpha = 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.view.crosshair) drawCross(context, x + (this.vox[across] + 0.5) * scaleX, y + (this.vox[down] + 0.5) * scaleY, left, top, width, height, ratio);
    const spacing = this.view.spacing_mm[across];
    drawScaleBar(context, left + width - 6 * ratio, top + height - 6 * ratio, Math.abs(scaleX) / spacing, width / 3, "mm", ratio);
    context.textAlign = "left";
    const level = this.vox[through] + 1 + this.view.start[through];
    writeText(context, `${PLANES[plane]} ${level}/${this.view.full[through]}`, left + 5 * ratio, top + height - 7 * ratio, ratio);
    context.textAlign = "center";
    const ends = (axis, scale) => (scale > 0 ? LETTERS[axis] : [...LETTERS[axis]].reverse());
    const [leftEnd, rightEnd] = ends(across, scaleX);
    const [topEnd, bottomEnd] = ends(down, scaleY);
    writeText(context, leftEnd, left + 8 * ratio, top + height / 2, ratio);
    writeText(context, topEnd, left + width / 2, top + 14 * ratio, ratio);
    writeText(context, rightEnd, left + width - 8 * ratio, top + height / 2, ratio);
    writeText(context, bottomEnd, left + width / 2, top + height - 7 * ratio, ratio);
    context.restore();
  }

  // the outlines or the picture of a layer's plane
  drawPlane(map, across, down, through) {
    const level = this.vox[through];
    const key = `${map.name} ${through} ${level}`;
    if (!this.paths.has(key)) {
      const size = this.layers.images[0].shape;
      const strides = [1, size[0], size[0] * size[1]];
      const values = map.gradient ? map.chances() : map.outlined ? map.outlines : map.indices;
      const at = (i, j) => values[i * strides[across] + j * strides[down] + level * strides[through]];
      if (this.paths.size > 60) this.paths.clear();
      this.paths.set(key, map.outlined ? tracePlane(at, size[across], size[down]) : fillPlane(map, at, size[across], size[down]));
    }
    return this.paths.get(key);
  }

  zoomAt(event, factor) {
    const [x, y, z, zoom] = this.nv.scene.pan2Dxyzmm;
    this.nv.scene.pan2Dxyzmm = [x, y, z, Math.min(Math.max(zoom * factor, 1), 20)];
    this.nv.drawScene();
  }

  resetView() {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.drawScene();
  }

  async startBrush(brush) {
    const image = this.layers.images[0];
    const drawing = await window.niivue.NVImage.new(writeNifti(image, brush.indices).buffer, "drawing.nii", "gray", 1);
    const colours = [[0, 0, 0], ...BRUSH_COLOURS.map(rgb)];
    const part = (channel) => Array.from({ length: 256 }, (_, index) => (index ? colours[1 + ((index - 1) % BRUSH_COLOURS.length)][channel] : 0));
    this.nv.loadDrawing(drawing);
    this.nv.setDrawColormap({ R: part(0), G: part(1), B: part(2), A: [0, ...Array(255).fill(255)] });
    this.nv.setDrawOpacity(0.6);
    this.nv.setDrawingEnabled(true);
    this.brush = brush;
    this.setPen(brush.pen, brush.size);
  }

  setPen(pen, size) {
    this.nv.opts.penSize = size;
    this.nv.setPenValue(pen, false);
  }

  undo() {
    this.nv.drawUndo();
  }

  readBrush() {
    return this.nv.drawBitmap;
  }

  stopBrush() {
    this.nv.closeDrawing();
    this.nv.setDrawingEnabled(false);
    this.brush = null;
  }

  snapshot() {
    this.nv.drawScene(); // WebGL keeps its pixels until the browser composes the page
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.canvas.width, this.canvas.height];
    const context = canvas.getContext("2d");
    context.drawImage(this.canvas, 0, 0);
    context.drawImage(this.above, 0, 0);
    return canvas;
  }
}

// the pen stays as wide across as down, although voxels are not
const placePaths = (paths, place) => new Map([...paths].map(([index, path]) => {
  const placed = new Path2D();
  placed.addPath(path, place);
  return [index, placed];
}));

function fillPlane(map, at, width, height) {
  const values = new Uint8Array(width * height);
  for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) values[i + j * width] = at(i, j);
  return toCanvas(map.gradient ? paintChances(values, width, height) : paintIndices(values, map.colours, width, height));
}
