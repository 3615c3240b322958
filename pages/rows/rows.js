// A list of studies or files. One stop for Tab; arrows go from row to row, Enter or a click opens.

const STEPS = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// As the page writes a probability: never 0 or 100 % for what is not certain.
function percent(value) {
  if (value > 0 && value < 0.5) return "<1 %";
  if (value < 100 && value >= 99.5) return ">99 %";
  return `${Math.round(value)} %`;
}

const DRAWN = {
  text: (cell) => made("span", "", cell),
  number: (cell) => made("span", "", String(cell)),
  finding: ({ state, word }) => {
    const whole = made("span", `finding ${state}`);
    whole.append(made("i"), made("span", "", word));
    return whole;
  },
  share: (cell) => {
    const whole = made("div", "share");
    if (cell === null) return whole;
    const bar = made("i");
    bar.style.width = `${cell}%`;
    const ground = made("span");
    ground.append(bar);
    whole.append(ground, made("b", "", percent(cell)));
    return whole;
  },
  picture: (cell) => {
    if (!cell) return made("span");
    const image = made("img");
    Object.assign(image, { src: cell, alt: "" }); // the row's button says what it is
    return image;
  },
};

// What of a cell is said with the name of its row: the finding and how probable it is.
function words(kind, cell) {
  if (kind === "finding") return cell.word;
  return kind === "share" && cell !== null ? percent(cell) : "";
}

class Rows {
  constructor(root) {
    this.root = root;
    const body = root.querySelector("tbody");
    body.addEventListener("click", ({ target }) => {
      const row = target.closest("tr");
      if (row && this.data.opens) this.open(row.dataset.id);
    });
    body.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      const buttons = [...body.querySelectorAll("button")];
      const there = buttons.indexOf(event.target) + step;
      this.stop(buttons[Math.max(0, Math.min(buttons.length - 1, there))]).focus();
    });
  }

  update(data, open) {
    this.open = open;
    const text = JSON.stringify(data);
    if (text === this.text) return;
    const focused = this.root.querySelector("button:focus")?.closest("tr").dataset.id;
    const before = this.data?.current;
    Object.assign(this, { data, text });
    this.draw();
    const row = (id) => this.root.querySelector(`tr[data-id="${CSS.escape(id)}"] button`);
    const first = this.root.querySelector("tbody button");
    const here = row(focused ?? data.current) ?? first;
    if (!here) return;
    this.stop(here);
    if (focused !== undefined) here.focus({ preventScroll: true });
    if (data.current !== before && row(data.current)) this.show(row(data.current).closest("tr"));
  }

  // A row in sight. The list alone scrolls: `scrollIntoView` would move the page with it.
  show(row) {
    const { root } = this;
    const top = root.getBoundingClientRect().top + root.clientTop;
    const { top: start, bottom: end } = row.getBoundingClientRect();
    const head = root.querySelector("thead").offsetHeight; // stays above the rows
    const above = top + head - start;
    const below = end - (top + root.clientHeight);
    root.scrollTop += above > 0 ? -above : Math.max(0, below);
  }

  // The one button that Tab stops at.
  stop(button) {
    for (const other of this.root.querySelectorAll("button[tabindex='0']")) other.tabIndex = -1;
    button.tabIndex = 0;
    return button;
  }

  draw() {
    const { columns, rows, opens, current, label, height, tall } = this.data;
    const table = this.root.querySelector("table");
    table.setAttribute("aria-label", label);
    table.classList.toggle("tall", tall);
    table.classList.toggle("narrow", !columns.some(({ aside, kind }) => aside && kind === "text"));
    this.root.style.setProperty("--height", `${height}px`);
    // Nothing in it takes the focus, so that it must itself, to be scrolled by key.
    this.root.toggleAttribute("tabindex", !opens);
    if (!opens) this.root.tabIndex = 0;
    table.tHead.rows[0].replaceChildren(...columns.map((column) => {
      const head = made("th", `${column.kind} ${column.aside ? "aside" : ""}`, column.name);
      head.scope = "col";
      if (column.width) head.style.width = `${column.width}rem`;
      return head;
    }));
    table.tBodies[0].replaceChildren(...rows.map(({ id, cells, below }) => {
      const row = made("tr", opens ? "opens" : "");
      row.dataset.id = id;
      if (id === current) row.setAttribute("aria-current", "true");
      row.append(...columns.map(({ name, kind, aside }, n) => {
        const cell = made("td", `${kind} ${aside ? "aside" : ""}`);
        const drawn = DRAWN[kind](cells[n]);
        if (kind === "text") cell.title = cells[n];
        if (name !== opens) return cell.append(drawn), cell;
        const button = made("button");
        button.type = "button";
        button.tabIndex = -1;
        button.append(drawn);
        const result = columns.map((column, m) => words(column.kind, cells[m])).filter(Boolean);
        button.setAttribute("aria-label", [cells[n], ...result].join(", "));
        cell.append(button);
        if (below) cell.append(Object.assign(made("span", "below", below), { title: below }));
        return cell;
      }));
      return row;
    }));
  }
}

const lists = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".rows");
  if (!lists.has(root)) lists.set(root, new Rows(root));
  return called(lists.get(root), root, [data, (id) => setTriggerValue("open", id)]);
}
