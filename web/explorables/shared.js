// What all explorables are made of: numbers in the course's style, controls, and a voice.

export const MINUS = "\u2212";

/** Format a share without its leading zero: .49; only 0 and 1 are shown as 0 and 1. */
export function share(value, digits = 2) {
  let text = Math.abs(value).toFixed(digits);
  if (value !== 0 && Number(text) === 0) text = Math.abs(value).toPrecision(1);
  if (Math.abs(value) < 1 && Number(text) >= 1) text = "0.999";
  const sign = value < 0 && Number(text) !== 0 ? MINUS : "";
  return sign + (Math.abs(value) < 1 ? text.replace(/^0\./, ".") : text);
}

/** Format a change with its sign. */
export function signed(value) {
  return (value > 0 ? "+" : "") + share(value, Math.abs(value) < 0.1 && value !== 0 ? 3 : 2);
}

/** Format a learning rate as people write it: 3e-3. */
export const rate = (value) => value.toExponential().replace("e-0", "e-");

/** Format a share in per cent, whole where it is not close to an end. */
export function percent(value) {
  const exact = 100 * value;
  if (exact > 0 && exact < 1) return "under 1 %";
  return exact > 99 && exact < 100 ? "over 99 %" : `${Math.round(exact)} %`;
}

/** Join names as in a sentence. */
export const joined = (names) =>
  [names.slice(0, -1).join(", "), ...names.slice(-1)].filter(Boolean).join(" and ");

/** Make an element; an attribute that begins with "on" is a listener. */
export function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

let controls = 0;

/** A slider over named stops. `moved` is called with the number of the stop. */
export function slider(name, stops, at, moved) {
  const id = `explorable-${++controls}`;
  const value = node("output", { for: id });
  const input = node("input", { type: "range", id, min: 0, max: stops.length - 1, step: 1 });
  const made = {
    stops,
    element: node("div", { class: "control" }, node("label", { for: id }, name), value, input),
    show(stop) {
      input.value = stop;
      value.textContent = made.stops[stop];
      input.setAttribute("aria-valuetext", made.stops[stop]);
    },
    limit(stops) {
      made.stops = stops;
      input.max = stops.length - 1;
    },
    enable(there, why = "") {
      input.disabled = !there;
      made.element.classList.toggle("off", !there);
      made.element.title = there ? "" : why;
    },
  };
  input.addEventListener("input", () => {
    made.show(Number(input.value));
    moved(Number(input.value));
  });
  made.show(at);
  return made;
}

/** Buttons of which one is chosen, as radio buttons: arrow keys move the choice. */
export function choice(name, options, at, moved) {
  const group = `explorable-${++controls}`;
  const inputs = options.map((_, number) =>
    node("input", { type: "radio", name: group, value: number, onchange: () => moved(number) }),
  );
  const labels = options.map((option, number) =>
    node("label", {}, inputs[number], node("span", {}, option)),
  );
  const element = node("fieldset", { class: "control choice" }, node("legend", {}, name), ...labels);
  const made = {
    element,
    show: (number) => (inputs[number].checked = true),
    enable(there) {
      element.disabled = !there;
      element.classList.toggle("off", !there);
    },
  };
  made.show(at);
  return made;
}

/** The sentence over a picture. Screen readers hear it once the hand rests. */
export function voice() {
  const seen = node("p", { class: "said" });
  const heard = node("p", { class: "heard", role: "status", "aria-live": "polite" });
  let waiting = 0;
  return {
    element: node("div", {}, seen, heard),
    say(text, badge = "", kind = "") {
      seen.textContent = `${text} `;
      if (badge) seen.append(node("span", { class: `badge ${kind}` }, badge));
      clearTimeout(waiting);
      waiting = setTimeout(() => (heard.textContent = `${text} ${badge}`), 400);
    },
  };
}

// ---------------------------------------------------------------- pictures

const point = (pair) => pair.map((value) => value.toFixed(1)).join(",");

export const svg = {
  picture: (inside, width, height, title) =>
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">${inside}</svg>`,
  line: (x, y, toX, toY, kind) =>
    `<line x1="${x}" y1="${y}" x2="${toX}" y2="${toY}" class="${kind}"/>`,
  path: (pairs, kind) => `<polyline points="${pairs.map(point).join(" ")}" class="${kind}"/>`,
  area: (pairs, kind) => `<polygon points="${pairs.map(point).join(" ")}" class="${kind}"/>`,
  dot: (x, y, size, kind) => `<circle cx="${x}" cy="${y}" r="${size}" class="${kind}"/>`,
  box: (x, y, wide, high, kind) =>
    `<rect x="${x}" y="${y}" width="${Math.max(0, wide)}" height="${high}" class="${kind}"/>`,
  text: (x, y, words, kind = "", anchor = "start") =>
    `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}">${words}</text>`,
};

/** A frame in which values run from `from` to `to` across and from 0 to 1 upwards. */
export function frame(left, top, width, height, to, from = 0) {
  return {
    left,
    top,
    right: left + width,
    bottom: top + height,
    x: (value) => left + (width * (value - from)) / (to - from),
    y: (value) => top + height * (1 - Math.min(Math.max(value, 0), 1)),
  };
}

/** Draw the grid of a frame, with its numbers and the names of both axes. */
export function axes(within, ticks, below, above) {
  const levels = [0, 0.25, 0.5, 0.75, 1].map(
    (level) =>
      svg.line(within.left, within.y(level), within.right, within.y(level), "grid") +
      svg.text(within.left - 6, within.y(level) + 4, share(level).replace(/\.?0+$/, "") || "0", "tick", "end"),
  );
  const across = ticks.map(([value, name]) =>
    svg.text(within.x(value), within.bottom + 18, name, "tick", "middle"),
  );
  const middle = (within.left + within.right) / 2;
  return [
    ...levels,
    ...across,
    svg.text(middle, within.bottom + 38, below, "axis", "middle"),
    svg.text(within.left - 26, within.top - 12, above, "axis"),
  ].join("");
}

/** Draw the band of a curve over seeds and its mean. */
export function curve(within, steps, rows, kind) {
  const upper = rows.map((row, at) => [within.x(steps[at]), within.y(row[2])]);
  const lower = rows.map((row, at) => [within.x(steps[at]), within.y(row[1])]).reverse();
  const mean = rows.map((row, at) => [within.x(steps[at]), within.y(row[0])]);
  return svg.area([...upper, ...lower], `band ${kind}`) + svg.path(mean, `curve ${kind}`);
}
