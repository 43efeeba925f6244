/* Rotary positions: query and key are turned by their positions, and their product knows the distance only. */
(() => {
  const { h, number, slider } = explorables;
  const NS = "http://www.w3.org/2000/svg";
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  explorables.add("rotate", () => {
    const q = [1, 0], k = [0.8, 0.6];
    let m = 6, n = 2, turn = 0.3; // positions of query and key; radians per position
    const view = h("div", { class: "explorable-view" });
    const said = h("p", { class: "explorable-said", "aria-live": "polite" });
    const arrow = ([x, y], name, style) =>
      svg("g", { class: style },
        svg("line", { x1: 0, y1: 0, x2: 90 * x, y2: -90 * y, "stroke-width": 4 }),
        svg("circle", { cx: 90 * x, cy: -90 * y, r: 5 }),
        svg("text", { x: 104 * x, y: -104 * y, "text-anchor": "middle", "dominant-baseline": "middle" }, name));
    const draw = () => {
      const turnedQ = rules.turn(q, m * turn), turnedK = rules.turn(k, n * turn);
      const product = rules.dot(turnedQ, turnedK);
      view.replaceChildren(
        svg("svg", { viewBox: "-125 -125 250 250", class: "explorable-circle", role: "img", "aria-label": `query turned by ${number(m * turn)}, key by ${number(n * turn)} radians` },
          svg("circle", { cx: 0, cy: 0, r: 90, class: "rim" }),
          arrow(turnedQ, `q at ${m}`, "query"), arrow(turnedK, `k at ${n}`, "key")));
      said.textContent = `q turned by ${m} × ${number(turn)}, k by ${n} × ${number(turn)}: their product is ${number(product, 3)}. Distance ${m - n}: move both, and it stays.`;
    };
    const last = 20;
    const position = { min: 0, max: last, step: 1, say: (x) => `${x}` };
    const set = (assign) => (x) => { assign(x); draw(); };
    const query = slider("position of the query", { ...position, value: m, change: set((x) => (m = x)) });
    const key = slider("position of the key", { ...position, value: n, change: set((x) => (n = x)) });
    const both = (by) => () => {
      const step = Math.max(-Math.min(m, n), Math.min(last - Math.max(m, n), by)); // neither leaves its slider
      [m, n] = [m + step, n + step];
      query.show(m);
      key.show(n);
      draw();
    };
    draw();
    return h("div", {},
      h("div", { class: "explorable-controls" },
        query.element, key.element,
        slider("radians per position", { min: 0.05, max: 1, step: 0.05, value: turn, change: set((x) => (turn = x)) }).element,
        h("p", { class: "explorable-buttons" },
          h("button", { type: "button", "data-do": "next", onclick: both(1) }, "Both one later"),
          h("button", { type: "button", "data-do": "back", onclick: both(-1) }, "Both one earlier"))),
      view, said);
  });
})();
