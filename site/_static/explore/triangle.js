/* The inverse of a chunk's triangle, row by row: x_t = e_t minus what the rows above already hold. */
(() => {
  const { h, number, matrix, slider } = explorables;
  const C = 5;

  explorables.add("triangle", () => {
    let likeness = 0.5, beta = 1, filled = 1;
    const view = h("div", { class: "explorable-view" });
    const said = h("p", { class: "explorable-said", "aria-live": "polite" });
    // keys with the same cosine between any two: a common part and a part of their own
    const keys = () =>
      Array.from({ length: C }, (_, t) => [Math.sqrt(likeness), ...Array.from({ length: C }, (_, s) => (s === t ? Math.sqrt(1 - likeness) : 0))]);

    const draw = () => {
      const A = rules.triangle(keys(), Array(C).fill(beta));
      const X = [];
      while (X.length < filled) X.push(rules.inverseRow(A, X));
      const names = A.map((_, t) => `token ${t + 1}`);
      const shownX = A.map((_, t) => (t < filled ? X[t].map((x, j) => (j > t ? null : x)) : A.map(() => null)));
      const shownA = A.map((row, t) => row.map((x, s) => (s < t ? x : null)));
      const used = (i, j) => (i === filled - 1 && j < i ? "changed" : "");
      view.replaceChildren(
        matrix(shownA, { rows: names, caption: "A: what each token must undo of those before it", mark: used }),
        matrix(shownX, { rows: names, caption: "X, the inverse of I + A, row by row", mark: (i) => (i === filled - 1 ? "changed" : "") }));
      const t = filled - 1;
      const terms = X.slice(0, t).map((_, s) => `${number(A[t][s])} · x${s + 1}`);
      said.textContent = t ? `x${t + 1} = e${t + 1} − (${terms.join(" + ")})` : "x1 = e1: the first token has nothing to undo. Its entry on the diagonal is its own write.";
    };
    const go = (rows) => () => {
      filled = Math.min(C, Math.max(1, rows(filled)));
      draw();
    };
    const unit = { min: 0, max: 1, step: 0.05 };
    draw();
    return h("div", {},
      h("div", { class: "explorable-controls" },
        slider("cosine of any two keys", { ...unit, max: 0.95, value: likeness, change: (x) => { likeness = x; draw(); } }).element,
        slider("write strength beta", { ...unit, value: beta, change: (x) => { beta = x; draw(); } }).element,
        h("p", { class: "explorable-buttons" },
          h("button", { type: "button", "data-do": "next", onclick: go((n) => n + 1) }, "Next row"),
          h("button", { type: "button", "data-do": "back", onclick: go((n) => n - 1) }, "Row before"),
          h("button", { type: "button", "data-do": "all", onclick: go(() => C) }, "All rows"))),
      view, said);
  });
})();
