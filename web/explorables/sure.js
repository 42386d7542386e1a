// How sure can I be? The interval of an exam and how its verdict comes out, all from a table.

import { node, percent, share, signed, slider, svg, voice } from "./shared.js";

export function sure(place, data) {
  const state = {
    groups: Math.max(0, data.groups.indexOf(100)),
    loss: data.losses.indexOf(0.1),
    budget: data.budgets.indexOf(0.05),
  };
  const move = (name) => (value) => {
    state[name] = value;
    show();
  };
  const controls = [
    slider("Groups of questions", data.groups.map(String), state.groups, move("groups")),
    slider("True loss", data.losses.map((value) => share(value)), state.loss, move("loss")),
    slider("Budget", data.budgets.map((value) => share(value)), state.budget, move("budget")),
  ];
  const said = voice();
  const picture = node("div", { class: "picture narrow" });
  const note = node("p", { class: "note" });
  place.append(
    said.element,
    node("div", { class: "controls" }, ...controls.map((each) => each.element)),
    picture,
    note,
  );

  function show() {
    const [groups, loss] = [data.groups[state.groups], data.losses[state.loss]];
    const budget = data.budgets[state.budget];
    const seen = data.intervals[state.groups][state.loss];
    const row = data.chances[state.budget * data.groups.length + state.groups];
    const [held, regressed] = row[state.loss];
    const chances = { REGRESSED: regressed, HELD: held, UNDERPOWERED: Math.max(0, 1 - held - regressed) };
    const words = Object.entries(chances).map(([name, chance]) => `${name} in ${percent(chance)}`);
    said.say(`With ${groups} groups, a true loss of ${share(loss)} is called ${words.join(", ")} of exams.`);
    picture.innerHTML = draw(seen, groups, budget, chances);
    const right = loss > budget ? "REGRESSED" : loss < budget ? "HELD" : "";
    note.textContent =
      `The bar: an average exam of this kind, ${seen.lost} groups lost and ${seen.gained} gained of ${groups}; ` +
      `its ${percent(data.confidence)} interval is ${signed(seen.low)} to ${signed(seen.high)}. ` +
      (right ? `The right verdict is ${right}. ` : "At a loss of exactly the budget no verdict is the right one. ") +
      `The exam has one capability, each group one question; ${share(data.churn)} of the groups are lost ` +
      "and as many gained by chance. The chances are exact, over all outcomes.";
  }

  show();
}

function draw(seen, groups, budget, chances) {
  const [from, to, left, width] = [-0.45, 0.15, 16, 400];
  const x = (value) => left + (width * (Math.min(Math.max(value, from), to) - from)) / (to - from);
  const change = (seen.gained - seen.lost) / groups;
  const ticks = [-0.4, -0.3, -0.2, -0.1, 0, 0.1].map(
    (tick) => svg.line(x(tick), 20, x(tick), 96, "grid") + svg.text(x(tick), 114, tick ? signed(Number(tick.toFixed(1))) : "0", "tick", "middle"),
  );
  const parts = [
    svg.box(x(from), 20, x(-budget) - x(from), 76, "beyond"),
    ...ticks,
    svg.line(x(-budget), 14, x(-budget), 96, "budget"),
    svg.text(x(-budget) - 6, 12, "budget", "tick", "end"),
    svg.line(x(seen.low), 58, x(seen.high), 58, "reach"),
    svg.dot(x(change), 58, 8, "spot now"),
    svg.text(left + width / 2, 138, "change that the exam shows", "axis", "middle"),
  ];
  let at = left;
  for (const [name, chance] of Object.entries(chances)) {
    const wide = width * chance;
    parts.push(svg.box(at, 164, wide, 34, `share ${name.toLowerCase()}`));
    if (wide > 142) parts.push(svg.text(at + wide / 2, 186, `${name} ${percent(chance)}`, "on", "middle"));
    at += wide;
  }
  const title = Object.entries(chances).map(([name, chance]) => `${name} ${percent(chance)}`);
  return svg.picture(parts.join(""), 432, 206, `Interval ${signed(seen.low)} to ${signed(seen.high)}; ${title.join(", ")}`);
}
