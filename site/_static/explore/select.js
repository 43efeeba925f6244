/* Which tokens a sparse layer reads: the indexer's scores for one query, and the k largest of them. */
(() => {
  const { h, slider, tint } = explorables;

  explorables.add("select", () => {
    const { tokens, scores } = exploreData.selection;
    let query = tokens.length - 1, k = 4;
    const view = h("div", { class: "explorable-view" });
    const said = h("p", { class: "explorable-said", "aria-live": "polite" });
    const focus = (i) => view.querySelector(`[data-token="${i}"]`).focus(); // the buttons were drawn anew
    const draw = () => {
      const row = scores[query], chosen = rules.topK(row, query + 1, k), most = Math.max(...row.slice(0, query + 1), 1);
      view.replaceChildren(
        h("p", { class: "explorable-text" },
          tokens.map((token, i) => {
            const state = i === query ? "query" : chosen.includes(i) ? "read" : i > query ? "later" : "left";
            const words = { query: "the query", read: `read, score ${row[i]}`, left: `not read, score ${row[i]}`, later: "later" }[state];
            return h("button", {
              type: "button", class: state, "data-token": i, title: words, "aria-label": `${token}: ${words}`,
              style: i > query ? false : tint(row[i], most), onclick: () => { query = i; draw(); focus(i); },
            }, token);
          })));
      said.textContent =
        `The token “${tokens[query]}” reads ${chosen.length} of ${query + 1}: ${chosen.map((i) => tokens[i]).join(" · ")}. ` +
        `It scored all ${query + 1} to choose them.`;
    };
    draw();
    return h("div", {},
      h("div", { class: "explorable-controls" },
        slider("tokens read, k", { min: 1, max: 12, step: 1, value: k, say: (x) => `${x}`, change: (x) => { k = x; draw(); } }).element),
      view, said);
  });
})();
