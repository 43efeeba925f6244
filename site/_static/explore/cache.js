/* What a published model must keep for one text: a cache that grows with every token beside a state that doesn't.
   The two numbers per model come from the book's own tables (explore/data.js). */
(() => {
  const { h, slider } = explorables;

  /** Bytes in words, in powers of 1,024. */
  const bytes = (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (n >= 1024 && unit < units.length - 1) [n, unit] = [n / 1024, unit + 1];
    return `${n >= 100 || unit === 0 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`;
  };

  explorables.add("cache", () => {
    const models = exploreData.models;
    let exponent = 15;
    const view = h("div", { class: "explorable-view" });
    const draw = () => {
      const T = 2 ** exponent;
      const total = models.map((m) => m.state + m.per_token * T);
      const most = Math.max(...total);
      view.replaceChildren(
        h("table", { class: "explorable-bars" },
          h("caption", {}, `kept for one text of ${T.toLocaleString("en")} tokens, in bfloat16 (states in float32)`),
          h("tr", {}, ["model", "state", "cache", "together", ""].map((name) => h("th", { scope: "col" }, name))),
          models.map((m, i) =>
            h("tr", { "data-model": m.name },
              h("th", { scope: "row" }, m.name),
              h("td", { class: "number" }, bytes(m.state)),
              h("td", { class: "number" }, bytes(m.per_token * T)),
              h("td", { class: "number" }, bytes(total[i])),
              h("td", { class: "bar" },
                h("span", { class: "state", style: `width: ${(100 * m.state) / most}%` }),
                h("span", { class: "cache", style: `width: ${(100 * m.per_token * T) / most}%` }))))));
    };
    const say = (x) => `${(2 ** x).toLocaleString("en")} tokens`;
    draw();
    return h("div", {},
      h("div", { class: "explorable-controls" },
        slider("length of the text", { min: 7, max: 20, step: 1, value: exponent, say, change: (x) => { exponent = x; draw(); } }).element),
      view);
  });
})();
