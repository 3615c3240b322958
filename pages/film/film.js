// The photograph with the film's corners, which can be dragged or moved by keys. Where they come to
// lie goes to the server when the reader lets go, or stops pressing.

const editors = new WeakMap();
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const [SMALL, LARGE] = [0.002, 0.02]; // of the picture, a key
const PAUSE = 700; // milliseconds after the last key
const NO_FILM = "The corner was put back: there the film would be too small, or its outline would cross " +
  "itself or bend inwards.";

class Editor {
  constructor(root) {
    this.root = root;
    this.image = root.querySelector("img");
    this.refusal = root.querySelector("[role=alert]");
    this.buttons = [...root.querySelectorAll("button")];
    this.buttons.forEach((button, k) => {
      button.addEventListener("pointerdown", (event) => this.onDown(event, k));
      button.addEventListener("keydown", (event) => this.onKey(event, k));
      button.addEventListener("blur", () => this.send());
    });
  }

  update(message, emit) {
    const { header, blobs } = opened(message);
    if (this.id !== header.id) this.finish();
    this.emit = emit;
    this.bounds = header;
    const given = JSON.stringify([header.id, header.corners]);
    if (this.id !== header.id) {
      URL.revokeObjectURL(this.image.src);
      this.image.src = URL.createObjectURL(new Blob([blobs[0]], { type: "image/jpeg" }));
      this.image.alt = header.alt;
      this.id = header.id;
    }
    if (this.given !== given) this.waiting = header.corners;
    this.given = given;
    this.settle();
  }

  // The corners that the server has, once none is being moved: what comes meanwhile answers an older
  // place, and the next one goes to the server anyhow.
  settle() {
    if (!this.waiting || this.undo || this.pause) return;
    this.corners = this.waiting.map((corner) => [...corner]);
    this.waiting = null;
    this.refused(false);
    this.draw();
  }

  draw() {
    this.root.querySelector("polygon").setAttribute("points", this.corners.map((c) => c.join(",")).join(" "));
    this.buttons.forEach((button, k) => {
      const [x, y] = this.corners[k];
      Object.assign(button.style, { left: `${100 * x}%`, top: `${100 * y}%` });
    });
    this.root.dataset.corners = this.corners.flat().map((v) => v.toFixed(4)).join(" ");
  }

  put(k, x, y) {
    this.corners[k] = [x, y].map((v) => Math.max(0, Math.min(1, v)));
    this.draw();
  }

  tell() {
    this.waiting = null; // the answer to this comes
    this.emit({ id: this.id, corners: this.corners });
  }

  // What keys have moved, if it has not gone off yet.
  send() {
    if (this.pause) this.tell();
    clearTimeout(this.pause);
    this.pause = null;
  }

  // Before the photograph goes: what keys have moved goes off as of this one, a drag is undone.
  finish() {
    this.undo?.();
    this.send();
  }

  // What the server would refuse (`checked` in core/film.py) goes back at once, and that is said.
  refused(is) {
    const words = is ? NO_FILM : "";
    if (this.refusal.textContent !== words) this.refusal.textContent = words;
  }

  // A corner where a hand or a key has left it. Whether it can stay there.
  left(k, [x, y]) {
    const stays = isFilm(this.corners, this.bounds);
    if (!stays) this.put(k, x, y);
    this.refused(!stays);
    return stays;
  }

  // One pointer at a time, and of a mouse the left button.
  onDown(event, k) {
    if (this.undo || event.button !== 0) return;
    this.send();
    const button = this.buttons[k];
    button.setPointerCapture(event.pointerId);
    const box = this.image.getBoundingClientRect();
    const [x, y] = this.corners[k];
    const over = new AbortController();
    const move = (next) =>
      this.put(k, x + (next.clientX - event.clientX) / box.width, y + (next.clientY - event.clientY) / box.height);
    const ended = () => {
      over.abort();
      this.undo = null;
    };
    const up = () => {
      ended();
      const moved = this.corners[k][0] !== x || this.corners[k][1] !== y;
      if (moved && this.left(k, [x, y])) this.tell();
      else this.settle();
    };
    const cancelled = () => {
      ended();
      this.put(k, x, y);
      this.settle();
    };
    this.undo = cancelled;
    button.addEventListener("pointermove", move, over);
    button.addEventListener("pointerup", up, over);
    button.addEventListener("pointercancel", cancelled, over);
    button.addEventListener("lostpointercapture", cancelled, over); // let go where nobody heard of it
  }

  onKey(event, k) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // the viewer beside goes to the next view with arrows
    if (this.undo) return; // a hand has a corner
    const size = event.shiftKey ? LARGE : SMALL;
    const [x, y] = this.corners[k];
    this.put(k, x + size * step[0], y + size * step[1]);
    if (!this.left(k, [x, y])) return;
    clearTimeout(this.pause);
    this.pause = setTimeout(() => {
      this.pause = null;
      this.tell();
    }, PAUSE);
  }

  end() {
    this.finish();
    URL.revokeObjectURL(this.image.src);
    editors.delete(this.root);
  }
}

// Clockwise, turning at each corner, and of some size: see `bounds` in pages/_film.py.
function isFilm(corners, { smallest, size, least, longest }) {
  const side = ([x0, y0], [x1, y1]) => [x1 - x0, y1 - y0];
  const cross = ([x0, y0], [x1, y1]) => x0 * y1 - y0 * x1;
  const sides = corners.map((corner, k) => side(corner, corners[(k + 1) % 4]));
  const convex = sides.every((one, k) => cross(one, sides[(k + 1) % 4]) > 0);
  const [a, b, c, d] = corners;
  const large = Math.abs(cross(side(a, c), side(b, d))) / 2 >= smallest;
  const long = sides.map(([x, y]) => Math.hypot(x * size[0], y * size[1]));
  const [across, down] = [(long[0] + long[2]) / 2, (long[1] + long[3]) / 2];
  const shrunk = Math.min(1, longest / Math.max(across, down)); // a larger one is made smaller
  return convex && large && Math.min(across, down) * shrunk >= least;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".film");
  if (!editors.has(root)) editors.set(root, new Editor(root));
  const editor = editors.get(root);
  return called(editor, root, [data, (event) => setTriggerValue("event", event)], () => editor.end());
}
