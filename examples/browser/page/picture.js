// From pixels to the numbers that a network reads. Greys and levels are shares of the range, 0 to 1.

/** Planes of the network's channels from RGBA bytes: 1 channel is the luma of ITU-R BT.601, as Pillow's "L"; 3 are R, G, B. */
export function planes(rgba, channels) {
  const count = rgba.length / 4;
  const made = Array.from({ length: channels }, () => new Float32Array(count));
  for (let i = 0; i < count; i++) {
    const at = 4 * i;
    if (channels === 1) made[0][i] = (0.299 * rgba[at] + 0.587 * rgba[at + 1] + 0.114 * rgba[at + 2]) / 255;
    else for (let c = 0; c < 3; c++) made[c][i] = rgba[at + c] / 255;
  }
  return made;
}

/** The smallest box {x, y, width, height} around what differs from the background by more than `ink`; null if nothing does. */
export function inkBox(made, width, height, background, ink) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!made.some((plane) => Math.abs(plane[y * width + x] - background) > ink)) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), y];
    }
  }
  return right < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

/** The part of a width x height picture that puts its ink where the training pictures have theirs: `fit` = {side, x, y}. */
export function fitted(ink, width, height, fit) {
  const scale = Math.max(ink.width / width, ink.height / height) / fit.side;
  const [w, h] = [scale * width, scale * height];
  return { x: ink.x + ink.width / 2 - fit.x * w, y: ink.y + ink.height / 2 - fit.y * h, width: w, height: h };
}

/** Mean of each of columns x rows cells of `box`; what lies outside of the picture counts as background. */
export function resample(plane, width, height, box, columns, rows, background) {
  const across = overlaps(box.x, box.width, columns, width);
  const down = overlaps(box.y, box.height, rows, height);
  const made = new Float32Array(columns * rows);
  down.forEach((vertical, row) => across.forEach((horizontal, column) => {
    let [sum, covered] = [0, 0];
    for (const [y, tall] of vertical) {
      for (const [x, wide] of horizontal) {
        sum += tall * wide * plane[y * width + x];
        covered += tall * wide;
      }
    }
    made[row * columns + column] = sum + (1 - covered) * background;
  }));
  return made;
}

/** For each of `cells` equal parts of [start, start + length): [index, share of the part] of the pixels under it. */
function overlaps(start, length, cells, limit) {
  const size = length / cells;
  return Array.from({ length: cells }, (_, cell) => {
    const [from, to] = [start + cell * size, start + (cell + 1) * size];
    const found = [];
    for (let i = Math.max(0, Math.floor(from)); i < Math.min(limit, to); i++) {
      const share = (Math.min(i + 1, to) - Math.max(i, from)) / size;
      if (share > 0) found.push([i, share]);
    }
    return found;
  });
}

const ARRAYS = { uint8: Uint8Array, int16: Int16Array, float32: Float32Array };

/** The sensor's values, channels first, of planes of levels. */
export function toRaw(made, { dtype, low, high }) {
  const flat = made.flatMap((plane) => [...plane]).map((level) => low + level * (high - low));
  return ARRAYS[dtype].from(dtype === "float32" ? flat : flat.map(Math.round));
}

/** RGBA pixels that show raw values, the range from black to white. */
export function toPixels(raw, { shape: [channels, height, width], low, high }) {
  const image = new ImageData(width, height);
  const count = width * height;
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = Math.round((255 * (raw[(c % channels) * count + i] - low)) / (high - low));
    }
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** The pictures of a file of raw values, one after another. */
export function cut(buffer, { dtype, shape }, count) {
  const size = shape.reduce((a, b) => a * b);
  const all = new ARRAYS[dtype](buffer);
  if (all.length !== count * size) throw new Error(`${all.length} values for ${count} pictures of ${size}`);
  return Array.from({ length: count }, (_, i) => all.slice(i * size, (i + 1) * size));
}
