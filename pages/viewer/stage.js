// What is drawn: one or two panes that share zoom, place, rotation and window.

const INK = "#d9dee2";
const MARK = "#7fd0ff";
const FRESH = { zoom: 1, u: 0.5, v: 0.5, turns: 0, flip: false };
const FARTHEST = 0.5;
const NEAREST = 24;

const corners = ([x0, y0, x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  // Panes in canvas pixels; the second one of a pair has the heatmap, the first one never.
  panes(beside) {
    const { width, height } = this.canvas;
    if (!beside) return [{ x: 0, width, height, bare: false }];
    const half = Math.floor(width / 2);
    return [true, false].map((bare, n) => ({ x: n * half, width: half, height, bare }));
  }

  scale(pane, picture, view) {
    const turned = view.turns % 2 === 1;
    const width = turned ? picture.height : picture.width;
    const height = turned ? picture.width : picture.height;
    return Math.min(pane.width / width, pane.height / height) * view.zoom;
  }

  // Pixels of the picture to pixels of the canvas.
  matrix(pane, picture, view) {
    const scale = this.scale(pane, picture, view);
    return new DOMMatrix()
      .translate(pane.x + pane.width / 2, pane.height / 2)
      .scale(view.flip ? -1 : 1, 1)
      .rotate(90 * view.turns)
      .scale(scale, scale)
      .translate(-view.u * picture.width, -view.v * picture.height);
  }

  // Which of the panes a point of the canvas lies in.
  paneAt(point, beside) {
    const panes = this.panes(beside);
    const found = panes.findIndex((p) => point.x < p.x + p.width);
    return found < 0 ? panes.length - 1 : found;
  }

  // Where a point of the canvas lies on the picture as this pane shows it, in fractions.
  fraction(point, pane, picture, view) {
    const found = this.matrix(pane, picture, view).inverse().transformPoint(point);
    return { x: found.x / picture.width, y: found.y / picture.height };
  }

  draw(scene) {
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!scene.picture) return;
    for (const pane of this.panes(scene.beside)) this.pane(pane, scene);
  }

  pane(pane, { picture, view, look, heat, opacity, region, marks, others }) {
    const { context } = this;
    const matrix = this.matrix(pane, picture, view);
    const scale = this.scale(pane, picture, view);
    context.save();
    context.beginPath();
    context.rect(pane.x, 0, pane.width, pane.height);
    context.clip();
    context.setTransform(matrix);
    context.imageSmoothingEnabled = scale < 4;
    context.drawImage(picture.canvas(scale, look), 0, 0, picture.width, picture.height);
    if (heat && !pane.bare) {
      context.imageSmoothingEnabled = true;
      context.globalAlpha = opacity;
      context.drawImage(heat, 0, 0, picture.width, picture.height);
      context.globalAlpha = 1;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (region && !pane.bare) this.outline(region, matrix, picture);
    for (const { box, label } of others) {
      this.outline({ outline: corners(box), label }, matrix, picture);
    }
    for (const mark of marks) this.rectangle(mark, matrix, picture);
    context.restore();
  }

  path(points, matrix, picture, colour, dash) {
    const { context } = this;
    const there = points.map(([x, y]) =>
      matrix.transformPoint({ x: x * picture.width, y: y * picture.height }),
    );
    context.beginPath();
    for (const { x, y } of there) context.lineTo(x, y);
    context.closePath();
    for (const [style, width] of [["#000", 4], [colour, 2]]) {
      context.setLineDash(dash);
      context.strokeStyle = style;
      context.lineWidth = width * devicePixelRatio;
      context.stroke();
    }
    return there;
  }

  outline({ outline, label }, matrix, picture) {
    const there = this.path(outline, matrix, picture, INK, []);
    if (!label) return;
    const { context } = this;
    const size = 13 * devicePixelRatio;
    context.font = `${size}px system-ui, sans-serif`;
    const x = Math.min(...there.map((p) => p.x));
    const y = Math.max(size * 1.5, Math.min(...there.map((p) => p.y)) - size * 0.5);
    context.fillStyle = "rgba(0, 0, 0, 0.75)";
    context.fillRect(x - 3, y - size, context.measureText(label).width + 6, size * 1.35);
    context.fillStyle = INK;
    context.fillText(label, x, y);
  }

  rectangle(box, matrix, picture) {
    this.path(corners(box), matrix, picture, MARK, [6 * devicePixelRatio, 4 * devicePixelRatio]);
  }
}
