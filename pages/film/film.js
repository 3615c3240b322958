// The photograph with the film's corners, which can be dragged or moved by keys. Where they come to
// lie goes to the server when the reader lets go, or stops pressing.

const editors = new WeakMap();
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const [SMALL, LARGE] = [0.002, 0.02]; // of the picture, a key
const PAUSE = 700; // milliseconds after the last key

class Editor {
  constructor(root) {
    this.root = root;
    this.image = root.querySelector("img");
    this.buttons = [...root.querySelectorAll("button")];
    this.buttons.forEach((button, k) => {
      button.addEventListener("pointerdown", (event) => this.onDown(event, k));
      button.addEventListener("keydown", (event) => this.onKey(event, k));
    });
  }

  update(message, emit) {
    const { header, blobs } = opened(message);
    this.emit = emit;
    const given = JSON.stringify([header.id, header.corners]);
    if (this.id !== header.id) {
      URL.revokeObjectURL(this.image.src);
      this.image.src = URL.createObjectURL(new Blob([blobs[0]], { type: "image/jpeg" }));
      this.image.alt = header.alt;
      this.id = header.id;
    }
    if (this.given !== given) this.corners = header.corners.map((corner) => [...corner]);
    this.given = given;
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
    this.emit({ id: this.id, corners: this.corners });
  }

  onDown(event, k) {
    const button = this.buttons[k];
    button.setPointerCapture(event.pointerId);
    const box = this.image.getBoundingClientRect();
    const [x, y] = this.corners[k];
    const move = (next) =>
      this.put(k, x + (next.clientX - event.clientX) / box.width, y + (next.clientY - event.clientY) / box.height);
    const up = (last) => {
      button.removeEventListener("pointermove", move);
      if (last.type === "pointercancel") this.put(k, x, y);
      else if (this.corners[k][0] !== x || this.corners[k][1] !== y) this.tell();
    };
    button.addEventListener("pointermove", move);
    button.addEventListener("pointerup", up, { once: true });
    button.addEventListener("pointercancel", up, { once: true });
  }

  onKey(event, k) {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // the viewer beside goes to the next view with arrows
    const size = event.shiftKey ? LARGE : SMALL;
    const [x, y] = this.corners[k];
    this.put(k, x + size * step[0], y + size * step[1]);
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.tell(), PAUSE);
  }

  end() {
    clearTimeout(this.pause);
    URL.revokeObjectURL(this.image.src);
    editors.delete(this.root);
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".film");
  if (!editors.has(root)) editors.set(root, new Editor(root));
  const editor = editors.get(root);
  return called(editor, root, [data, (event) => setTriggerValue("event", event)], () => editor.end());
}
