// "Save PNG": the whole picture at its own size as it looks now, and below it what it is.

function saved({ header, picture, view, scene }) {
  if (!picture) return;
  const turned = view.turns % 2 === 1;
  const height = turned ? picture.width : picture.height;
  const shown = scene({ ...view, zoom: 1, u: 0.5, v: 0.5 });
  const width = (turned ? picture.height : picture.width) * (shown.beside ? 2 : 1);
  const stage = new Stage(blank(width, height));
  stage.draw(shown);
  captioned(stage.canvas, [...header.caption, ...inWords(shown, header)]).toBlob((file) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `radiograph-${header.id.slice(0, 12)}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

// What was done to the picture, in the order in which it was: it is turned before it is mirrored.
function inWords({ view, look, heat, opacity, map }, { method }) {
  const centre = Math.round((look.low + look.high) / 2);
  const wide = Math.round(look.high - look.low);
  const done = [
    `Window C ${centre} W ${wide}`,
    look.invert && "inverted",
    view.turns > 0 && `turned clockwise by ${90 * view.turns} degrees`,
    view.flip && "mirrored",
  ];
  const seen = `${map}, opacity ${Math.round(100 * opacity)} %`;
  return [
    done.filter(Boolean).join(", "),
    heat ? `${method} scaled by the probability, ${seen}` : "Without heatmap",
  ];
}

// A canvas with lines of text below it; what is too long for one goes on in the next.
function captioned(picture, lines) {
  const size = Math.max(11, Math.round(picture.width / 45));
  const font = `${size}px system-ui, sans-serif`;
  const pen = blank(1, 1).getContext("2d");
  pen.font = font;
  const wide = picture.width - size;
  const short = lines.flatMap((line) => wrapped(line, (text) => pen.measureText(text).width <= wide));
  const step = Math.round(1.5 * size);
  const whole = blank(picture.width, picture.height + step * short.length + size);
  const context = whole.getContext("2d", { alpha: false });
  context.drawImage(picture, 0, 0);
  Object.assign(context, { font, fillStyle: INK, textBaseline: "top" });
  short.forEach((line, n) => {
    context.fillText(line, size / 2, picture.height + size / 2 + n * step, wide);
  });
  return whole;
}

// A line in as many as it takes, between words: a word that is too long by itself stands alone.
function wrapped(line, fits) {
  const found = [];
  for (const word of line.split(" ")) {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    if (found.length && fits(longer)) found[found.length - 1] = longer;
    else found.push(word);
  }
  return found;
}
