// The look-up: what earlier runs did at a setting. Nothing is trained here.

import {
  axes, choice, curve, frame, joined, node, percent, rate, share, signed, slider, svg, voice,
} from "./shared.js";

const BUDGETS = [0.01, 0.02, 0.05, 0.1, 0.2];
const METHODS = { full: "full", lora: "LoRA" };
const SOURCES = { original: "old text", self: "its own words" };

export function lookup(place, { budget, laboratories }) {
  let lab = laboratories[0];
  const stops = () => lab.controls;
  const state = { budget: BUDGETS.indexOf(budget), moved: "" };
  const said = voice();
  const [curves, plane] = [node("div", { class: "picture" }), node("div", { class: "picture" })];
  const note = node("p", { class: "note" });
  let made = {};

  function begin() {
    Object.assign(state, { method: 0, learning_rate: 0, rank: 0, replay: 0, replay_source: 0 });
    state.learning_rate = Math.max(0, stops().learning_rate.indexOf(0.002));
    state.rank = Math.max(0, stops().rank.indexOf(8));
    const move = (name) => (value) => {
      state[name] = value;
      state.moved = name;
      show();
    };
    const { method, learning_rate, rank, replay, replay_source } = stops();
    made = {
      method: choice("Method", method.map((name) => METHODS[name] ?? name), state.method, move("method")),
      learning_rate: slider("Learning rate", learning_rate.map(rate), state.learning_rate, move("learning_rate")),
      rank: slider("Rank of LoRA", rank.map(String), state.rank, move("rank")),
      replay: slider("Replay of old rows", replay.map(percent), state.replay, move("replay")),
      replay_source: choice("Replayed", replay_source.map((name) => SOURCES[name] ?? name), 0, move("replay_source")),
      budget: slider("Budget", BUDGETS.map((value) => share(value)), state.budget, move("budget")),
    };
    controls.replaceChildren(...laboratory, ...Object.values(made).map((each) => each.element));
    show();
  }

  const controls = node("div", { class: "controls" });
  const laboratory =
    laboratories.length < 2
      ? []
      : [
          choice("Laboratory", laboratories.map((each) => each.name), 0, (value) => {
            lab = laboratories[value];
            begin();
          }).element,
        ];
  place.append(said.element, controls, node("div", { class: "sides even" }, curves, plane), note);

  /** Return the setting that the controls ask for, or the nearest one that was run. */
  function found() {
    if (lab.settings[key(state)]) return "";
    const near = candidates().sort((one, other) => distance(one) - distance(other))[0];
    const changed = Object.keys(near).filter((name) => near[name] !== state[name] && counts(name, near));
    Object.assign(state, near);
    for (const name of Object.keys(near)) made[name].show(state[name]);
    const words = { learning_rate: "rate", rank: "rank", replay: "replay", method: "method", replay_source: "source of replay" };
    return `Nobody ran that combination: ${joined(changed.map((name) => words[name]))} moved to the nearest that was run. `;
  }

  const counts = (name, values) =>
    name === "rank" ? stops().method[values.method] === "lora" : name !== "replay_source" || stops().replay[values.replay] > 0;

  function* every() {
    const { method, learning_rate, rank, replay, replay_source } = stops();
    for (const m of method.keys())
      for (const l of learning_rate.keys())
        for (const k of rank.keys())
          for (const r of replay.keys())
            for (const s of replay_source.keys())
              yield { method: m, learning_rate: l, rank: k, replay: r, replay_source: s };
  }
  const candidates = () => [...every()].filter((values) => lab.settings[key(values)]);
  /** What was moved stays, and the method gives way last. */
  const distance = (values) =>
    Object.keys(values).reduce((sum, name) => {
      const weight = name === state.moved ? 1000 : name === "method" ? 100 : 1;
      return sum + weight * Math.abs(values[name] - state[name]);
    }, 0);

  function key(values) {
    const method = stops().method[values.method];
    const replay = stops().replay[values.replay];
    return [
      method,
      rate(stops().learning_rate[values.learning_rate]),
      ...(method === "lora" ? [`r${stops().rank[values.rank]}`] : []),
      ...(replay ? [String(replay), stops().replay_source[values.replay_source]] : []),
    ].join(" ");
  }

  function show() {
    const moved = found();
    const here = lab.settings[key(state)];
    const most = BUDGETS[state.budget];
    const lora = stops().method[state.method] === "lora";
    made.rank.enable(lora, "Full fine-tuning has no rank.");
    made.replay_source.enable(stops().replay[state.replay] > 0);
    const [verdict, kind] = judged(here.change, most);
    const [task, classics] = here.end;
    said.say(
      `${moved}New job ${share(task)} right, old questions ${share(classics)}: ` +
        `a change of ${signed(here.change[0])}, ${signed(here.change[1])} to ${signed(here.change[2])}.`,
      verdict,
      kind,
    );
    const lost = lab.capabilities.filter((_, at) => here.lost[at] > most);
    curves.innerHTML = drawCurves(lab, here, most);
    plane.innerHTML = drawPlane(lab, here, most);
    note.textContent =
      (lost.length ? `Lost more than ${share(most)} on average: ${joined(lost)}. ` : "") +
      `${here.seeds} runs of ${lab.name} that differ in their seed; bands from the lowest to the highest. ` +
      "The interval is over seeds, on all old questions at the end; the points ask a sample. " +
      `One of ${lab.runs} runs, measured on ${lab.date}.`.replace("One of", "From");
  }

  begin();
}

/** Judge an interval over seeds against the budget. */
function judged([, low, high], budget) {
  if (high < -budget) return [`beyond the budget of ${share(budget)}`, "regressed"];
  return low >= -budget
    ? [`within the budget of ${share(budget)}`, "held"]
    : [`not decided at a budget of ${share(budget)}`, "underpowered"];
}

function drawCurves(lab, here, budget) {
  const last = lab.steps.at(-1);
  const within = frame(40, 34, 330, 220, last);
  const floor = within.y(lab.base[1] - budget);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => [part * last, Math.round(part * last)]);
  return svg.picture(
    axes(within, ticks, "training steps", "share right") +
      svg.line(within.left, floor, within.right, floor, "budget") +
      curve(within, lab.steps, here.task, "new") +
      curve(within, lab.steps, here.classics, "old") +
      ends(within, here),
    450,
    304,
    `Along ${last} steps the new job goes from ${share(here.task[0][0])} to ${share(here.task.at(-1)[0])}, ` +
      `old questions from ${share(here.classics[0][0])} to ${share(here.classics.at(-1)[0])}`,
  );
}

/** Name both curves at their ends, apart from each other. */
function ends(within, here) {
  let [high, low] = [within.y(here.task.at(-1)[0]), within.y(here.classics.at(-1)[0])];
  const [near, down] = [Math.abs(high - low) < 16, high <= low];
  if (near) [high, low] = down ? [high - 6, low + 10] : [high + 10, low - 6];
  return (
    svg.text(within.right + 8, high + 4, "new job", "name new") +
    svg.text(within.right + 8, low + 4, "old", "name old")
  );
}

function drawPlane(lab, here, budget) {
  const within = frame(40, 34, 330, 220, 1);
  const floor = within.y(lab.base[1] - budget);
  const cloud = Object.values(lab.settings).map(({ end }) => svg.dot(within.x(end[0]), within.y(end[1]), 3, "cloud"));
  const [x, y] = [within.x(here.end[0]), within.y(here.end[1])];
  const [baseX, baseY] = [within.x(lab.base[0]), within.y(lab.base[1])];
  const left = x > within.left + 230;
  return svg.picture(
    axes(within, [0, 0.25, 0.5, 0.75, 1].map((tick) => [tick, share(tick).replace(/\.?0+$/, "") || "0"]), "new job: learned →", "old: kept ↑") +
      cloud.join("") +
      svg.line(within.left, floor, within.right, floor, "budget") +
      svg.text(within.right + 6, floor + 4, "budget", "tick") +
      svg.line(baseX, baseY, x, y, "way") +
      svg.dot(baseX, baseY, 7, "spot base") +
      svg.text(baseX, baseY - 12, "base", "name", "middle") +
      svg.dot(x, y, 8, "spot now") +
      svg.text(left ? x - 13 : x + 13, y + 18, "this setting", "name", left ? "end" : "start"),
    450,
    304,
    `Each dot is a setting; this one learned ${share(here.end[0])} and kept ${share(here.end[1])}`,
  );
}
