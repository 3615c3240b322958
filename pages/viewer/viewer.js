// The viewer: what the reader does is drawn at once, here; only events go to the server.

const TYPING = "textarea, select, [contenteditable=true], [role=grid], [role=listbox], canvas[data-testid]";
const ARROWS_TAKEN = "input, [role=slider], [role=radiogroup], [role=tab], [role=radio]";
const viewers = new WeakMap();
const views = new Map(); // what was set for each radiograph, as long as the browser's page lives
const WINDOWED = ["[", "]", ",", "."]; // keys of the window: on many keyboards written with AltGr or Option
const ONCE = [" ", "i", "m", "1", "2", "3"]; // keys that do something once, however long they are held
const EVENTS_KEPT = 20; // the server asks for those that it has not seen
const events = []; // what the reader did, numbered: two keys in quick succession are both there
const shared = { invert: false, overlay: true, outline: false, beside: false, opacity: 50, tool: "window",
  colours: 0 };

class Viewer {
  constructor(root) {
    this.root = root;
    this.stage = new Stage(root.querySelector("canvas.stage"));
    this.peeking = null; // the code of the key that is held for it
    this.marks = [];
    this.gestures = new Gestures(this);
    this.listen();
  }

  async update(message, emit) {
    const { header, blobs } = opened(message);
    this.emit = (event) => {
      const number = Math.max(Date.now(), (events.at(-1)?.number ?? 0) + 1);
      const { id: view, about, session } = this.header;
      events.push({ ...event, view, about, session, number });
      events.splice(0, events.length - EVENTS_KEPT);
      emit([...events]);
    };
    const other = this.header?.key !== header.key;
    // What was begun on a picture is not of the next one, nor of the same one in another study.
    if (other || this.header.about !== header.about) this.gestures.drop();
    this.header = header;
    this.root.hidden = !header.key; // nothing to see: the keys for previous and next are left
    if (this.root.hidden) return void Object.assign(this.root.dataset, { view: "", ready: false });
    this.marks = header.mark ? [header.mark] : [];
    [, this.warmth, this.colours] = blobs;
    this.coloured();
    if (!views.has(header.key)) views.set(header.key, { ...FRESH, ...opening(header) });
    this.view = views.get(header.key);
    if (other) this.picture = null;
    this.controls();
    this.redraw();
    if (!other) return;
    const values = await greyValues(blobs[0], header.bits);
    if (this.header.key !== header.key) return; // the reader has gone on
    this.picture = new Picture(values, header.width, header.height);
    this.redraw();
  }

  // What the buttons show; the parts of the bar that this page has no use for are left out.
  controls() {
    const { header, root } = this;
    const select = root.querySelector("[data-input=preset]");
    const options = header.presets.map(({ name }) => new Option(name, name));
    select.replaceChildren(...options, new Option("Manual", "", false, false));
    const colours = root.querySelector("[data-input=colours]");
    colours.replaceChildren(...header.colours.map((name, n) => new Option(name, n)));
    colours.value = shared.colours;
    root.querySelector("[data-tool=mark]").hidden = !header.marks;
    const keys = [header.marks && "M marks the middle", header.digits].filter(Boolean);
    root.querySelector(".digits").textContent = keys.map((words) => ` · ${words}`).join("");
    root.querySelector(".note").textContent = header.note ?? "";
    for (const one of root.querySelectorAll(".heatbar > :not(.note, .numbers)")) one.hidden = !header.heat;
    root.querySelector("[data-do=beside]").hidden = !header.heat;
    root.querySelector("[data-do=outline]").hidden = !header.region;
    root.querySelector("[data-input=opacity]").value = shared.opacity;
    this.stage.canvas.setAttribute("aria-label", header.alt);
  }

  // The heatmap and its scale in the colours that the reader chose.
  coloured() {
    const { heat } = this.header;
    const colours = this.colours.subarray(768 * shared.colours, 768 * (shared.colours + 1));
    this.heat = heat ? glass(this.warmth, heat.width, heat.height, colours) : null;
    const canvas = this.root.querySelector(".scale canvas");
    const image = new ImageData(256, 1);
    for (let i = 0; i < 256; i += 1) image.data.set([...colours.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  get hot() {
    return this.heat && shared.overlay === (this.peeking === null);
  }

  redraw() {
    this.asked ??= performance.now();
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
      this.root.dataset.response = (performance.now() - this.asked).toFixed(1);
      this.asked = null;
    });
  }

  draw() {
    if (this.root.hidden) return;
    const { canvas } = this.stage;
    const { width, height } = canvas.getBoundingClientRect();
    const [w, h] = [width, height].map((side) => Math.max(1, Math.round(side * devicePixelRatio)));
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    this.stage.draw(this.scene(this.view));
    this.say(Boolean(this.hot));
  }

  // What is to be drawn, seen through `view`.
  scene = (view) => {
    return {
      picture: this.picture,
      view,
      look: { low: view.low, high: view.high, invert: shared.invert },
      beside: this.beside,
      heat: this.hot ? this.heat : null,
      opacity: shared.opacity / 100,
      region: shared.outline ? this.header.region : null,
      marks: this.dragged ? [this.dragged] : this.marks,
      others: this.header.others ?? [],
      map: this.header.colours[shared.colours],
    };
  };

  // The state in words, for the reader and for whatever reads the page.
  say(hot) {
    const { view, root } = this;
    const centre = Math.round((view.low + view.high) / 2);
    const wide = Math.round(view.high - view.low);
    const numbers = `C ${centre} W ${wide} · ${Math.round(100 * view.zoom)} %`;
    root.querySelector(".numbers").textContent = numbers;
    Object.assign(root.dataset, {
      view: this.header.id,
      zoom: view.zoom.toFixed(4),
      place: `${view.u.toFixed(4)} ${view.v.toFixed(4)}`,
      window: `${view.low.toFixed(1)} ${view.high.toFixed(1)}`,
      overlay: hot,
      ready: Boolean(this.picture),
    });
    const pressed = { ...shared, rotate: view.turns > 0, flip: view.flip };
    for (const button of root.querySelectorAll("[data-do]:not([data-do=reset], [data-do=save])")) {
      button.setAttribute("aria-pressed", Boolean(pressed[button.dataset.do]));
    }
    const tool = this.header.marks || shared.tool !== "mark" ? shared.tool : "window";
    for (const button of root.querySelectorAll("[data-tool]")) {
      if (button.tagName === "BUTTON") button.setAttribute("aria-pressed", button.dataset.tool === tool);
    }
    this.stage.canvas.dataset.tool = tool;
    const preset = this.header.presets.find((p) => p.low === view.low && p.high === view.high);
    root.querySelector("[data-input=preset]").value = preset?.name ?? "";
  }

  act(what) {
    const { view } = this;
    if (what === "save") return saved(this);
    if (what === "rotate") view.turns = (view.turns + 1) % 4;
    else if (what === "flip") view.flip = !view.flip;
    else if (what === "reset") Object.assign(view, FRESH, opening(this.header));
    else shared[what] = !shared[what];
    this.redraw();
  }

  // What lies at `from` comes to lie at `to`, both points of the canvas; without them the middle stays.
  zoom(factor, from = null, to = from, pane = from && this.pane(from)) {
    const { view } = this;
    const before = from && this.under(from, pane);
    view.zoom = Math.max(FARTHEST, Math.min(NEAREST, view.zoom * factor));
    if (before) {
      const after = this.under(to, pane);
      this.move(before.x - after.x, before.y - after.y);
    }
    this.redraw();
  }

  get beside() {
    return shared.beside && Boolean(this.heat);
  }

  pane(point) {
    return this.stage.paneAt(point, this.beside);
  }

  // Where a point of the canvas lies on the picture in that pane, in fractions; null without one.
  under(point, pane) {
    const { picture, view, stage } = this;
    const panes = stage.panes(this.beside);
    return picture && stage.fraction(point, panes[pane] ?? panes[0], picture, view);
  }

  move(u, v) {
    const { view } = this;
    view.u = Math.max(0, Math.min(1, view.u + u));
    view.v = Math.max(0, Math.min(1, view.v + v));
    this.redraw();
  }

  // As it is seen: on a picture that is turned or mirrored that is another way.
  pan(across, down) {
    const { turns, flip } = this.view;
    const back = new DOMMatrix().rotate(-90 * turns).scale(flip ? -1 : 1, 1);
    const { x, y } = back.transformPoint({ x: across, y: down });
    this.move(x, y);
  }

  // Both in pixels of a drag: to the right it is wider, down the centre is higher, so that it is
  // darker, as in most DICOM viewers.
  widen(across, down) {
    const { view } = this;
    const wide = Math.max(1, (view.high - view.low) * Math.exp(across / 250));
    const centre = (view.low + view.high) / 2 + (down / 500) * (view.high - view.low);
    Object.assign(view, { low: centre - wide / 2, high: centre + wide / 2 });
    this.redraw();
  }

  listen() {
    const { root, stage: { canvas } } = this;
    root.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button?.dataset.do) this.act(button.dataset.do);
      if (button?.dataset.by) this.zoom(Number(button.dataset.by));
      if (button?.dataset.tool) (shared.tool = button.dataset.tool), this.redraw();
    });
    root.querySelector("[data-input=opacity]").addEventListener("input", ({ target }) => {
      shared.opacity = Number(target.value);
      this.redraw();
    });
    root.querySelector("[data-input=colours]").addEventListener("change", ({ target }) => {
      shared.colours = Number(target.value);
      this.coloured();
      this.redraw();
    });
    root.querySelector("[data-input=preset]").addEventListener("change", ({ target }) => {
      const preset = this.header.presets.find(({ name }) => name === target.value);
      if (preset) Object.assign(this.view, { low: preset.low, high: preset.high });
      this.redraw();
    });
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.keys = (event) => this.onKey(event);
    this.away = () => this.peek(null); // a key that is let go elsewhere is not heard of
    document.addEventListener("keydown", this.keys);
    document.addEventListener("keyup", this.keys);
    document.addEventListener("visibilitychange", this.away);
    window.addEventListener("blur", this.away);
    this.resized = new ResizeObserver(() => this.header && this.redraw());
    this.resized.observe(canvas);
    this.denser = () => this.watchDensity();
    this.watchDensity();
  }

  // The window may go to a screen of another density, or the browser zoom: only this tells of it.
  watchDensity() {
    this.density?.removeEventListener("change", this.denser);
    this.density = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    this.density.addEventListener("change", this.denser);
    if (this.header) this.redraw();
  }

  end() {
    document.removeEventListener("keydown", this.keys);
    document.removeEventListener("keyup", this.keys);
    document.removeEventListener("visibilitychange", this.away);
    window.removeEventListener("blur", this.away);
    this.resized.disconnect();
    this.density.removeEventListener("change", this.denser);
    viewers.delete(this.root);
  }

  // By the canvas as it is drawn: until it is drawn anew it has the density of the last screen.
  point(event) {
    const { canvas } = this.stage;
    const box = canvas.getBoundingClientRect();
    const [across, down] = [canvas.width / box.width, canvas.height / box.height];
    return { x: (event.clientX - box.x) * across, y: (event.clientY - box.y) * down };
  }

  onWheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 600), this.point(event));
  }

  // What is being drawn; null for nothing.
  rectangle(box) {
    this.dragged = box;
    if (this.header) this.redraw();
  }

  keepDragged() {
    const box = this.dragged;
    this.dragged = null;
    this.keep(box);
  }

  // A mark without a mouse: around what stands in the middle, a fifth of what is seen.
  markHere() {
    const { u, v, zoom } = this.view;
    const half = 0.1 / Math.max(1, zoom);
    this.keep(between({ x: u - half, y: v - half }, { x: u + half, y: v + half }));
  }

  keep(box) {
    if (box && box[2] - box[0] > 0.005 && box[3] - box[1] > 0.005) {
      this.marks = [box];
      this.emit({ kind: "mark", mark: box.map((x) => x.toFixed(4)).join(" ") });
    }
    this.redraw();
  }

  onKey(event) {
    const target = event.composedPath()[0];
    if (event.type === "keyup") {
      // Whatever else is held by now, and whatever has the focus.
      if (event.code === this.peeking) this.peek(null);
    } else if (this.header && !isShortcut(event) && !taken(event, target)) {
      const key = event.key.toLowerCase();
      if (key === "o") this.peek(event.code);
      else if (this.pressed(key, event.shiftKey, event.repeat)) event.preventDefault();
    }
  }

  peek(code) {
    if (this.peeking === code) return;
    this.peeking = code;
    if (this.header) this.redraw();
  }

  // Whether the key means something here, and then it is done. held: whether the keyboard repeats it;
  // zoom, window and pan go on, but nobody is led past radiographs that were not seen.
  pressed(key, shift, held) {
    const step = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] }[key];
    const goes = step?.[0] && !shift;
    if (held && (goes || ONCE.includes(key))) return goes || !this.root.hidden;
    if (goes) this.emit({ kind: "go", step: step[0] });
    else if (this.root.hidden) return false;
    else if (step && shift) this.pan(step[0] / (20 * this.view.zoom), step[1] / (20 * this.view.zoom));
    else if (key === " ") this.act("overlay");
    else if (key === "i") this.act("invert");
    else if (key === "+" || key === "=") this.zoom(1.25);
    else if (key === "-") this.zoom(0.8);
    else if (key === "m" && this.header.marks) this.markHere();
    else if (key === "[" || key === "]") this.widen(key === "[" ? -25 : 25, 0);
    else if (key === "," || key === ".") this.widen(0, key === "," ? 25 : -25);
    else if (this.header.digits && "123".includes(key)) this.emit({ kind: "decision", value: Number(key) });
    else return false;
    return true;
  }
}

const opening = ({ presets: [{ low, high }] }) => ({ low, high });

// Whether it is the browser's or the system's. What is written with AltGr has Ctrl and Alt on Windows.
function isShortcut({ key, ctrlKey, altKey, metaKey }) {
  return metaKey || (altKey ? !WINDOWED.includes(key) : ctrlKey);
}

// Whether what has the focus needs this key itself.
function taken(event, target) {
  if (!(target instanceof Element)) return false;
  const kind = target.tagName === "INPUT" ? target.type : "";
  if (target.closest(TYPING) || (kind && !["range", "radio", "checkbox", "button"].includes(kind))) return true;
  if (event.key === " ") return Boolean(target.closest("button, a, summary, input"));
  return event.key.startsWith("Arrow") && Boolean(target.closest(ARROWS_TAKEN));
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  if (!viewers.has(root)) viewers.set(root, new Viewer(root));
  const viewer = viewers.get(root);
  return called(viewer, root, [data, (list) => setStateValue("events", list)], () => viewer.end());
}
