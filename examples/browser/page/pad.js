// The canvas that is drawn on. It holds a whole number of pixels for each one of the network's, so that nothing is smeared.
import { fitted, inkBox, planes, resample, toPixels, toRaw } from "./picture.js";

const SIDE = 280;
const BRUSH = 0.12; // of the longer side
const DOT = 0.01; // pixels: a line of no length is not drawn

export class Pad extends EventTarget {
  /** Events: "change" while something is drawn, with `detail` true once a stroke or a picture is whole. */
  constructor(canvas, input) {
    super();
    [this.canvas, this.input] = [canvas, input];
    const [, height, width] = input.shape;
    const zoom = Math.max(1, Math.ceil(SIDE / Math.max(width, height)));
    [canvas.width, canvas.height] = [width * zoom, height * zoom];
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.background = (input.background - input.low) / (input.high - input.low);
    this.pointer = null;
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.start(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.end(event));
  }

  clear() {
    [this.bitmap, this.exact, this.empty, this.inverted] = [null, null, true, false];
    this.fill(grey(this.background));
  }

  /** Raw values as they are, until something is drawn over them. */
  show(raw) {
    this.clear();
    [this.exact, this.empty] = [raw, false];
    const small = document.createElement("canvas");
    picture(small, raw, this.input);
    this.paint(small);
  }

  /** A picture of any size, scaled into the canvas as a whole. `inverted`: true, false, or undefined for what its rim suggests. */
  open(bitmap, inverted) {
    this.clear();
    [this.bitmap, this.empty] = [bitmap, false];
    this.context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    const bright = rim(this.pixels());
    this.inverted = inverted ?? (this.input.fit !== null && Math.abs(bright - this.background) > 0.5);
    this.fill(grey(bright));
    this.paint(bitmap);
    if (!this.inverted) return;
    this.context.globalCompositeOperation = "difference";
    this.fill("white");
    this.context.globalCompositeOperation = "source-over";
  }

  /** What the networks read; null while nothing is there. */
  read(fit) {
    if (this.empty || this.exact) return this.exact;
    const { width, height } = this.canvas;
    const { shape: [channels, rows, columns], ink } = this.input;
    const made = planes(this.pixels().data, channels);
    const own = this.bitmap && this.bitmap.width === columns && this.bitmap.height === rows;
    const found = fit && !own ? inkBox(made, width, height, this.background, ink) : null;
    const box = found ? fitted(found, width, height, this.input.fit) : { x: 0, y: 0, width, height };
    return toRaw(made.map((plane) => resample(plane, width, height, box, columns, rows, this.background)), this.input);
  }

  pixels() {
    return this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  fill(style) {
    this.context.fillStyle = style;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  paint(image) {
    const { width, height } = this.canvas;
    const scale = Math.min(width / image.width, height / image.height);
    const [w, h] = [scale * image.width, scale * image.height];
    this.context.imageSmoothingEnabled = scale < 1;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  }

  start(event) {
    if (this.pointer !== null || event.button > 0) return;
    event.preventDefault();
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    [this.exact, this.empty] = [null, false];
    this.at = this.place(event);
    this.line([this.at[0] + DOT, this.at[1]]);
  }

  move(event) {
    if (event.pointerId === this.pointer) this.line(this.place(event));
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.changed(true);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  line(to) {
    const pen = this.context;
    pen.strokeStyle = grey(this.background < 0.5 ? 1 : 0);
    pen.lineWidth = BRUSH * Math.max(this.canvas.width, this.canvas.height);
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...this.at);
    pen.lineTo(...to);
    pen.stroke();
    this.at = to;
    this.changed(false);
  }

  changed(whole) {
    this.dispatchEvent(new CustomEvent("change", { detail: whole }));
  }
}

/** Raw values on a canvas of their own size. */
export function picture(canvas, raw, input) {
  [canvas.height, canvas.width] = input.shape.slice(1);
  canvas.getContext("2d").putImageData(toPixels(raw, input), 0, 0);
}

function grey(level) {
  const value = Math.round(255 * level);
  return `rgb(${value} ${value} ${value})`;
}

/** Mean level of the outermost pixels. */
function rim({ data, width, height }) {
  const [grey] = planes(data, 1);
  const outer = grey.filter((_, i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1);
  return outer.reduce((a, b) => a + b) / outer.length;
}
