// What mouse, pen and fingers do on the picture. One pointer does what the tool says; a second finger
// takes that back, and both zoom and move. What has begun on one picture ends with it.

class Gestures {
  constructor(viewer) {
    this.viewer = viewer;
    this.canvas = viewer.stage.canvas;
    this.pointers = new Map(); // the last event of each that is down
    this.drag = null; // of one pointer
    this.pinch = null; // of two
    for (const [name, what] of Object.entries({
      pointerdown: this.onDown,
      pointermove: this.onMove,
      pointerup: this.onUp,
      pointercancel: this.onCancel,
      lostpointercapture: this.onCancel, // let go where nobody heard of it
    })) {
      this.canvas.addEventListener(name, (event) => what.call(this, event));
    }
  }

  onDown(event) {
    if (!this.viewer.picture || (this.pointers.size && !this.isSecondFinger(event))) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size > 1) this.beginPinch();
    else this.beginDrag(event);
  }

  isSecondFinger(event) {
    const [first, ...more] = this.pointers.values();
    return !more.length && first.pointerType === "touch" && event.pointerType === "touch";
  }

  beginDrag(event) {
    const { viewer, canvas } = this;
    const tool = event.button === 0 && !event.shiftKey ? canvas.dataset.tool : "pan";
    const point = viewer.point(event);
    const pane = viewer.pane(point); // to the end: across the middle lies the same place again
    this.drag = { tool, pane, start: viewer.under(point, pane), before: { ...viewer.view } };
  }

  beginPinch() {
    const { viewer } = this;
    if (this.drag) Object.assign(viewer.view, this.drag.before);
    this.drag = null;
    viewer.rectangle(null);
    this.pinch = this.fingers();
    this.pinch.pane = viewer.pane(this.pinch.middle);
  }

  // Their middle and how far they are from each other, in pixels of the canvas.
  fingers() {
    const [a, b] = [...this.pointers.values()].map((event) => this.viewer.point(event));
    return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, apart: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  onMove(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    this.pointers.set(event.pointerId, event);
    if (this.pinch) this.pinched();
    else if (this.drag) this.dragged(event, last);
  }

  dragged(event, last) {
    const { viewer, drag: { tool, pane, start } } = this;
    const here = viewer.under(viewer.point(event), pane);
    if (tool === "window") viewer.widen(event.clientX - last.clientX, event.clientY - last.clientY);
    if (tool === "mark") viewer.rectangle(between(start, here));
    if (tool === "pan") viewer.move(start.x - here.x, start.y - here.y);
  }

  pinched() {
    const { pane, middle, apart } = this.pinch;
    const now = this.fingers();
    this.viewer.zoom(now.apart / Math.max(1, apart), middle, now.middle, pane);
    this.pinch = { pane, ...now };
  }

  onUp(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.drag?.tool === "mark") this.viewer.keepDragged();
    this.drag = this.pinch = null; // the finger that is left does nothing until it is lifted
  }

  onCancel(event) {
    if (this.pointers.has(event.pointerId)) this.drop();
  }

  // The end of whatever is under way, and nothing is kept of it.
  drop() {
    for (const id of this.pointers.keys()) {
      if (this.canvas.hasPointerCapture(id)) this.canvas.releasePointerCapture(id);
    }
    this.pointers.clear();
    this.drag = this.pinch = null;
    this.viewer.rectangle(null);
  }
}

function between(a, b) {
  const inside = (x) => Math.max(0, Math.min(1, x));
  const [x0, x1] = [a.x, b.x].map(inside).sort((m, n) => m - n);
  const [y0, y1] = [a.y, b.y].map(inside).sort((m, n) => m - n);
  return [x0, y0, x1, y1];
}
