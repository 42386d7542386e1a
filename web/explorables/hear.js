// Hear it forget: what a model answered, step by step, as recorded from real runs.

import { axes, choice, frame, node, percent, rate, share, slider, svg, voice } from "./shared.js";

const FIRST = 3; // questions that are always in view

export function hear(place, { recorded, real }) {
  const rates = [...new Set(recorded.runs.map((run) => run.learning_rate))];
  const shares = [...new Set(recorded.runs.map((run) => run.replay))];
  const realShares = Object.keys(real.answers);
  const realSteps = Object.keys(Object.values(real.answers)[0]);
  const state = { real: false, rate: rates.indexOf(0.002), step: 0, old: 0 };
  if (state.rate < 0) state.rate = Math.floor(rates.length / 2);

  const move = (name) => (value) => {
    state[name] = value;
    show();
  };
  const stepSlider = slider("Training steps", recorded.steps.map(String), 0, move("step"));
  const rateSlider = slider("Learning rate", rates.map(rate), state.rate, move("rate"));
  const old = choice("Old rows", ["none", "some"], 0, move("old"));
  const model = choice("Model", [`${recorded.subject}, tiny`, real.model.split(",")[0]], 0, (value) => {
    state.real = value === 1;
    state.step = state.step ? (state.real ? realSteps.length : recorded.steps.length) - 1 : 0;
    stepSlider.limit(state.real ? realSteps.map(realStep) : recorded.steps.map(String));
    stepSlider.show(state.step);
    rateSlider.enable(!state.real, `This model was trained at ${rate(real.rate)}.`);
    show();
  });
  const said = voice();
  const picture = node("div", { class: "picture" });
  const answers = node("div", { class: "answers" });
  const note = node("p", { class: "note" });
  place.append(
    said.element,
    node("div", { class: "controls" }, stepSlider.element, rateSlider.element, old.element, model.element),
    node("div", { class: "sides" }, answers, picture),
    note,
  );

  function show() {
    if (state.real) showReal();
    else showRecorded();
  }

  function showRecorded() {
    const run = recorded.runs.find(
      (each) => each.learning_rate === rates[state.rate] && each.replay === shares[state.old],
    );
    const rows = recorded.questions.map(({ asked, right }, at) => {
      const [now, before] = [run.answers[state.step][at], run.answers[0][at]];
      return {
        asked,
        now: recorded.said[now],
        before: now === before ? "" : recorded.said[before],
        right: right.includes(now),
      };
    });
    const lost = rows.filter((row) => !row.right).length;
    const [step, last] = [recorded.steps[state.step], recorded.steps.at(-1)];
    const task = run.task[state.step];
    said.say(
      step === 0
        ? `Before the training it answers all ${rows.length} questions. Move the steps.`
        : `Step ${step} of ${last}: ${lost} of ${rows.length} old answers are lost. New job: ${share(task)} right.`,
    );
    picture.innerHTML = chart(recorded.steps, run, state.step);
    list(rows);
    note.textContent =
      `Recorded on ${recorded.date} from ${recorded.subject}, full fine-tuning at ${rate(run.learning_rate)} ` +
      (run.replay ? `with ${percent(run.replay)} old rows.` : "without old rows.") +
      " The curves: a sample of all questions, answered by choosing; what it says is lost before what it would choose.";
  }

  function showReal() {
    const kept = realShares[Math.min(state.old, realShares.length - 1)];
    const given = real.answers[kept];
    const step = realSteps[state.step];
    const rows = Object.entries(given[step]).map(([asked, now]) => ({
      asked,
      now,
      before: now === given.before[asked] ? "" : given.before[asked],
    }));
    const changed = rows.filter((row) => row.before).length;
    said.say(
      step === "before"
        ? "A real chat model before the training. Move the steps."
        : `After ${step} steps ${changed} of ${rows.length} answers are not what they were.`,
    );
    picture.innerHTML = bars(real.known[kept]);
    list(rows);
    note.textContent =
      `${real.model}; measured on ${real.date}. Full fine-tuning at ${rate(real.rate)} on customer-service ` +
      `dialogues, ${Number(kept) ? `${percent(Number(kept))} of the rows from old conversations` : "without old rows"}. ` +
      `The bars: shares right before and after, means over ${real.known[kept].seeds} seeds.`;
  }

  function list(rows) {
    const items = rows.map((row) => answer(row));
    const more = node(
      "details",
      { ontoggle: (event) => (opened = event.target.open), open: opened },
      node("summary", {}, `${rows.length - FIRST} more questions`),
      ...items.slice(FIRST),
    );
    answers.replaceChildren(...items.slice(0, FIRST), ...(rows.length > FIRST ? [more] : []));
  }
  let opened = false;

  show();
}

const realStep = (name) => (name === "before" ? "0" : name);

function answer({ asked, now, before, right }) {
  const mark = right === undefined ? (before ? "changed" : "as before") : right ? "right" : "lost";
  const lost = mark === "lost" || mark === "changed";
  return node(
    "div",
    { class: `answer ${lost ? "lost" : "kept"}` },
    node("div", { class: "asked" }, asked),
    node("div", { class: "now" }, node("span", { class: "mark" }, `${lost ? "✗" : "✓"} ${mark}`), ` ${now || "(nothing)"}`),
    ...(before ? [node("div", { class: "before" }, `before: ${before}`)] : []),
  );
}

function chart(steps, run, at) {
  const within = frame(40, 30, 340, 190, steps.at(-1));
  const line = (values, kind) =>
    svg.path(values.map((value, n) => [within.x(steps[n]), within.y(value)]), `curve ${kind}`) +
    svg.dot(within.x(steps[at]), within.y(values[at]), 6, `spot ${kind}`);
  const x = within.x(steps[at]);
  const title = `Step ${steps[at]}: new job ${share(run.task[at])}, old questions ${share(run.classics[at])}`;
  return svg.picture(
    axes(within, steps.filter((step) => step % 20 === 0).map((step) => [step, step]), "training steps", "share right") +
      svg.line(x, within.top, x, within.bottom, "here") +
      line(run.classics, "old") +
      line(run.task, "new") +
      svg.text(within.right + 8, within.y(run.classics.at(-1)) + 4, "old", "name old") +
      svg.text(within.right + 8, within.y(run.task.at(-1)) + 4, "new job", "name new"),
    450,
    270,
    title,
  );
}

function bars({ before, after }) {
  const names = Object.keys(before);
  const within = frame(120, 10, 240, 60 * names.length, 1);
  const rows = names.map((name, at) => {
    const y = within.top + 60 * at;
    return (
      svg.text(within.left - 10, y + 30, name, "", "end") +
      svg.box(within.left, y + 6, within.x(before[name]) - within.left, 16, "bar pale") +
      svg.box(within.left, y + 26, within.x(after[name]) - within.left, 16, "bar old") +
      svg.text(within.x(before[name]) + 6, y + 19, `${share(before[name])} before`, "tick") +
      svg.text(within.x(after[name]) + 6, y + 39, `${share(after[name])} after`, "tick")
    );
  });
  const words = names.map((name) => `${name} ${share(before[name])}, then ${share(after[name])}`);
  return svg.picture(rows.join(""), 450, within.bottom + 10, words.join("; "));
}
