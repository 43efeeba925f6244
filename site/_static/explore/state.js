/* A memory of 4 x 3 numbers that stores colours under keys: read, erase, write, and what the older keys still return. */
(() => {
  const { h, number, matrix, slider, choice } = explorables;
  const half = Math.SQRT1_2;
  const KEYS = [
    ["A", "(1, 0, 0, 0)", [1, 0, 0, 0]],
    ["B", "(0, 1, 0, 0)", [0, 1, 0, 0]],
    ["C", "(0, 0, 1, 0)", [0, 0, 1, 0]],
    ["AB", "half A, half B: (0.71, 0.71, 0, 0)", [half, half, 0, 0]],
    ["BC", "half B, half C: (0, 0.71, 0.71, 0)", [0, half, half, 0]],
  ];
  const VALUES = [
    ["orange", [0.9, 0.6, 0]],
    ["sky", [0.3, 0.7, 0.9]],
    ["green", [0, 0.6, 0.5]],
    ["rose", [0.8, 0.5, 0.7]],
    ["black", [0, 0, 0]],
  ];
  const RULES = [["hebb", "Hebb"], ["delta", "delta rule"], ["gated", "gated delta"], ["kda", "KDA"]];
  const ABOUT = {
    hebb: "Hebb adds k vᵀ and never looks at what is there.",
    delta: "The delta rule reads S with k first, and writes only what is missing: v − Sᵀk.",
    gated: "The gated delta rule first fades the whole state by one factor, then corrects.",
    kda: "KDA fades every row of the state by a factor of its own, then corrects.",
  };
  const colour = (v) => `rgb(${v.map((x) => Math.round(255 * Math.min(1, Math.max(0, x)))).join(" ")})`;
  const swatch = (v) => h("span", { class: "explorable-swatch", style: `background: ${colour(v)}`, "aria-hidden": "true" });
  const vector = (v) => `(${v.map((x) => number(x)).join(", ")})`;

  explorables.add("state", () => {
    const empty = () => [0, 1, 2, 3].map(() => [0, 0, 0]);
    let chosen = { rule: "delta", key: "A", value: "orange", beta: 1, factors: [0.9, 0.9, 0.9, 0.9] };
    let past = [{ S: empty(), written: [] }]; // one entry per write: undo goes back
    const now = () => past[past.length - 1];
    const key = () => KEYS.find(([name]) => name === chosen.key)[2];
    const value = () => VALUES.find(([name]) => name === chosen.value)[1];
    const view = h("div", { class: "explorable-view" });
    const said = h("p", { class: "explorable-said", "aria-live": "polite" });
    const sliders = h("div", { class: "explorable-sliders" });

    const set = (name) => (x) => {
      chosen = { ...chosen, [name]: x };
      if (name === "rule") drawSliders();
      draw();
    };

    const write = () => {
      const { S, written } = now();
      const k = key(), v = value();
      const fresh = rules.step(S, { ...chosen, k, v });
      const kept = written.filter(([name]) => name !== chosen.key);
      past.push({ S: fresh, written: [...kept, [chosen.key, chosen.value]] });
      draw();
      const fades = chosen.rule === "gated" || chosen.rule === "kda";
      const found = rules.read(fades ? rules.decay(S, chosen.factors) : S, k);
      const missing = v.map((x, j) => x - found[j]);
      const wrote =
        chosen.rule === "hebb"
          ? `Wrote beta k vᵀ, whatever ${chosen.key} held.`
          : `${fades ? "Faded, then read" : "Read"} Sᵀk = ${vector(found)}. Missing: v − Sᵀk = ${vector(missing)}. Wrote k times ${number(chosen.beta)} of that.`;
      said.textContent = `${wrote} Now ${chosen.key} returns ${vector(rules.read(fresh, k))}; asked for: ${vector(v)}.`;
    };
    const undo = () => {
      if (past.length > 1) past.pop();
      draw();
      said.textContent = past.length > 1 ? "The last write is undone: this page kept the state before it. A model doesn't." : "The state is empty.";
    };
    const restart = () => {
      past = past.slice(0, 1);
      draw();
      said.textContent = "The state is empty.";
    };

    const drawSliders = () => {
      const unit = { min: 0, max: 1, step: 0.05 };
      const shown = [slider("write strength beta", { ...unit, value: chosen.beta, change: set("beta") })];
      const keep = (rows) => (x) => set("factors")(chosen.factors.map((old, i) => (rows.includes(i) ? x : old)));
      if (chosen.rule === "gated") {
        chosen.factors = chosen.factors.map(() => chosen.factors[0]);
        shown.push(slider("kept per token, exp(g)", { ...unit, value: chosen.factors[0], change: keep([0, 1, 2, 3]) }));
      }
      if (chosen.rule === "kda") {
        chosen.factors.forEach((x, i) => shown.push(slider(`kept in row ${i + 1}`, { ...unit, value: x, change: keep([i]) })));
      }
      sliders.replaceChildren(...shown.map(({ element }) => element));
    };

    const draw = () => {
      const { S, written } = now(), before = past[past.length - 2];
      const changed = (i, j) => (before && Math.abs(before.S[i][j] - S[i][j]) > 1e-12 ? "changed" : "");
      const channels = ["red", "green", "blue"];
      const rows = written.map(([name, wanted]) => {
        const v = VALUES.find(([other]) => other === wanted)[1];
        const found = rules.read(S, KEYS.find(([other]) => other === name)[2]);
        const error = Math.hypot(...found.map((x, j) => x - v[j]));
        return h("tr", { "data-key": name },
          h("th", { scope: "row" }, name),
          h("td", {}, swatch(v), wanted),
          h("td", {}, swatch(found), vector(found)),
          h("td", { class: "number" }, number(error)));
      });
      view.replaceChildren(
        matrix(S, { rows: ["row 1", "row 2", "row 3", "row 4"], columns: channels, caption: "the state S, 4 × 3", mark: changed }),
        written.length
          ? h("table", { class: "explorable-answers" },
              h("caption", {}, "what each key returns now, Sᵀk"),
              h("tr", {}, ["key", "written", "returned", "error"].map((name) => h("th", { scope: "col" }, name))),
              rows)
          : h("p", {}, "Nothing is written yet. Choose a key and a colour, and press Write."));
      about.textContent = ABOUT[chosen.rule];
    };

    const about = h("p", { class: "explorable-about" });
    const named = ([name, words]) => [name, h("span", {}, name, words ? h("small", {}, ` ${words}`) : null)];
    const coloured = ([name, v]) => [name, h("span", {}, swatch(v), name)];
    drawSliders();
    draw();
    said.textContent = "The state is empty.";
    return h("div", {},
      h("div", { class: "explorable-controls" },
        choice("rule", RULES, chosen.rule, set("rule")),
        choice("key k", KEYS.map(named), chosen.key, set("key")),
        choice("value v, a colour", VALUES.map(coloured), chosen.value, set("value")),
        sliders,
        h("p", { class: "explorable-buttons" },
          h("button", { type: "button", "data-do": "write", onclick: write }, "Write"),
          h("button", { type: "button", "data-do": "undo", onclick: undo }, "Undo"),
          h("button", { type: "button", "data-do": "restart", onclick: restart }, "Start over"))),
      about, view, said);
  });
})();
