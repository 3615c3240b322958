// The grey values of one radiograph at several sizes, and their way to the screen.

const SMALLEST = 700; // pixels: no smaller copy is made of a picture of this longer side

class Picture {
  constructor(values, width, height) {
    this.width = width;
    this.height = height;
    this.levels = [{ values, width, height }];
    let last = this.levels[0];
    while (Math.max(last.width, last.height) > SMALLEST) {
      last = halved(last);
      this.levels.push(last);
    }
  }

  // A canvas of the picture through its window, at the smallest size that is sharp at `scale`
  // screen pixels a grey value. Nothing is computed again while size and window stay.
  canvas(scale, look) {
    let level = 0;
    while (level + 1 < this.levels.length && scale * 2 ** (level + 1) <= 1) level += 1;
    const one = this.levels[level];
    const drawn = `${look.low} ${look.high} ${look.invert}`;
    if (one.drawn !== drawn) {
      one.drawn = drawn;
      one.canvas ??= blank(one.width, one.height);
      windowed(one, look);
    }
    return one.canvas;
  }
}

function blank(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Half the size, each value the mean of four.
function halved({ values, width, height }) {
  const w = width >> 1 || 1;
  const h = height >> 1 || 1;
  const half = new values.constructor(w * h);
  for (let y = 0, to = 0; y < h; y += 1) {
    let from = Math.min(2 * y, height - 1) * width;
    const down = 2 * y + 1 < height ? width : 0;
    for (let x = 0; x < w; x += 1, from += 2, to += 1) {
      half[to] = (values[from] + values[from + 1] + values[from + down] + values[from + down + 1]) >> 2;
    }
  }
  return { values: half, width: w, height: h };
}

// Every grey value of the file through the window: a table of all values, then one look-up a pixel.
function windowed(level, { low, high, invert }) {
  const { values, width, height, canvas } = level;
  const table = new Uint32Array(values.BYTES_PER_ELEMENT > 1 ? 65536 : 256);
  const slope = 255 / Math.max(1e-6, high - low);
  for (let v = 0; v < table.length; v += 1) {
    let grey = Math.max(0, Math.min(255, Math.round((v - low) * slope)));
    if (invert) grey = 255 - grey;
    table[v] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  level.image ??= new ImageData(width, height);
  const out = new Uint32Array(level.image.data.buffer);
  for (let i = 0; i < out.length; i += 1) out[i] = table[values[i]];
  canvas.getContext("2d").putImageData(level.image, 0, 0);
}

// The heatmap as coloured glass: bytes 0 to 255, 256 RGB colours. Where there is no evidence it is
// clear, and from half of the scale on it is as dense as the opacity says.
function glass(heat, width, height, colours) {
  const image = new ImageData(width, height);
  for (let i = 0; i < heat.length; i += 1) {
    image.data.set(colours.subarray(3 * heat[i], 3 * heat[i] + 3), 4 * i);
    image.data[4 * i + 3] = Math.min(255, 2 * heat[i]);
  }
  const canvas = blank(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
