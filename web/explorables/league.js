// The league: remedies at equal skill, sorted and sifted by what one has.

import { node, percent, share, voice } from "./shared.js";

const COLUMNS = [
  ["remedy", "Remedy", -1],
  ["setting", "Setting", -1],
  ["mean", "Kept", 1],
  ["task", "Task", 1],
  ["time", "Time", -1],
  ["old_rows", "Old rows", -1],
  ["trainable", "Weights trained", -1],
]; // name, title, and 1 where more is better
const LITTLE = 0.25; // of the weights

export function league(place, data) {
  const all = Math.max(...data.rows.map((row) => row.trainable));
  const state = { by: "mean", up: false, noOld: false, little: false };
  const said = voice();
  const body = node("tbody");
  const heads = COLUMNS.map(([name, title, better]) =>
    node("th", { scope: "col" }, node("button", { type: "button", onclick: () => sort(name, better) }, title)),
  );
  const table = node("table", { class: "league" }, node("thead", {}, node("tr", {}, ...heads)), body);
  place.append(
    said.element,
    node("div", { class: "controls" }, box("I have no old data", "noOld"), box("I have little memory", "little")),
    node("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "League of remedies" }, table),
    node(
      "p",
      { class: "note" },
      `Each remedy at its best setting that reaches task ${share(data.task)}, chosen on ${data.seeds[0]} seeds ` +
        `and judged on ${data.seeds[1]} others; intervals over these. Time: against full fine-tuning of the same length. ` +
        `Little memory: at most ${percent(LITTLE)} of the weights are trained, and only these need an optimiser's memory.`,
    ),
  );

  function box(words, name) {
    const change = (event) => {
      state[name] = event.target.checked;
      show();
    };
    return node("label", { class: "control tick-box" }, node("input", { type: "checkbox", onchange: change }), ` ${words}`);
  }

  function sort(name, better) {
    state.up = state.by === name ? !state.up : better < 0;
    state.by = name;
    show();
  }

  function show() {
    const left = data.rows
      .filter((row) => (!state.noOld || row.old_rows === 0) && (!state.little || row.trainable <= LITTLE * all))
      .sort((one, other) => compared(one[state.by], other[state.by]) * (state.up ? 1 : -1));
    body.replaceChildren(...left.map((row) => node("tr", {}, ...cells(row))));
    COLUMNS.forEach(([name], at) => {
      heads[at].setAttribute("aria-sort", name === state.by ? (state.up ? "ascending" : "descending") : "none");
    });
    const best = [...left].sort((one, other) => other.mean - one.mean)[0];
    const sifted = state.noOld || state.little;
    const title = COLUMNS.find(([name]) => name === state.by)[1].toLowerCase();
    said.say(
      (sifted
        ? best
          ? `${left.length} of ${data.rows.length} remedies fit; ${best.remedy} keeps most of them (${share(best.mean)}).`
          : "No remedy fits."
        : data.sentence) + ` Sorted by ${title}.`,
    );
  }

  function cells(row) {
    return [
      node("th", { scope: "row" }, row.remedy),
      node("td", {}, row.setting),
      node("td", {}, node("b", {}, share(row.mean)), ` ${share(row.low)} to ${share(row.high)}`),
      node("td", {}, share(row.task)),
      node("td", {}, row.time === null ? "" : `${row.time.toFixed(2)} x`),
      node("td", {}, String(row.old_rows)),
      node("td", {}, row.trainable === all ? "all" : percent(row.trainable / all)),
    ];
  }

  show();
}

const compared = (one, other) =>
  typeof one === "string" ? one.localeCompare(other) : (one ?? Infinity) - (other ?? Infinity);
