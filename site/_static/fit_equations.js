/* Equations that are wider than the page break: first between their statements, where the author left a wide space;
   then before a relation or an operator, or after a comma. What has no such place is set smaller. MathJax 3 draws an
   equation as one row of boxes: here the row becomes pieces that stay whole, and the browser wraps them like words. */
(() => {
  if (!window.MathJax) return; // a page without mathematics
  const BEFORE = "=<>≤≥≠≈≔∝←→↦:∈+−⊙∘", OPENING = "([{⌊⟨", CLOSING = ")]}⌋⟩";

  const character = (box) => {
    const sign = box.localName === "mjx-texatom" && box.children.length === 1 ? box.firstElementChild : box;
    const glyph = sign.localName === "mjx-mo" && sign.querySelector("mjx-c");
    const code = glyph && glyph.className.match(/mjx-c([0-9A-F]+)/);
    return code ? String.fromCodePoint(parseInt(code[1], 16)) : " ";
  };
  const width = (box) => box.getBoundingClientRect().width;
  const isWideSpace = (box) =>
    (box.localName === "mjx-mspace" || (box.localName === "mjx-mstyle" && box.querySelector("mjx-mspace"))) && width(box) > 12;

  const wrap = (row, groups, name) => {
    for (const group of groups.filter((boxes) => boxes.length)) {
      const whole = document.createElement("span");
      whole.className = name;
      row.insertBefore(whole, group[0]);
      whole.append(...group);
    }
  };

  const statements = (row) => {
    const groups = [[]];
    for (const box of [...row.children]) {
      if (!isWideSpace(box)) groups.at(-1).push(box);
      else if (groups.at(-1).length) groups.push([]);
      if (isWideSpace(box)) box.remove(); // the gap between statements takes its place
    }
    wrap(row, groups, "equation-statement");
  };

  const pieces = (row, inside) => {
    const groups = [[]];
    let depth = 0;
    for (const box of [...row.children]) {
      const sign = character(box);
      if (CLOSING.includes(sign)) depth -= 1;
      if ((inside || depth <= 0) && BEFORE.includes(sign) && groups.at(-1).length) groups.push([]);
      groups.at(-1).push(box);
      if ((inside || depth <= 0) && sign === ",") groups.push([]);
      if (OPENING.includes(sign)) depth += 1;
    }
    wrap(row, groups, "equation-piece");
  };

  const fit = () =>
    document.querySelectorAll(".bd-article div.math").forEach((equation) => {
      const row = equation.querySelector("mjx-math"), room = equation.clientWidth;
      if (!row) return;
      equation.style.fontSize = "";
      const broken = row.querySelector(".equation-statement");
      if (!broken && width(row) <= room + 1) return;
      if (!broken) statements(row);
      for (const statement of row.children) {
        if (!statement.querySelector(".equation-piece") && statement.scrollWidth > room) pieces(statement, false);
        for (const piece of statement.querySelectorAll(":scope > .equation-piece")) {
          if (width(piece) <= room) continue;
          pieces(piece, true);
          piece.replaceWith(...piece.children);
        }
      }
      const widest = Math.max(...[...row.children].map((statement) => statement.scrollWidth));
      if (widest > room) equation.style.fontSize = `${Math.floor((97 * room) / widest)}%`;
    });

  MathJax.startup = { pageReady: () => MathJax.startup.defaultPageReady().then(fit) };
  let timer = 0;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(fit, 150);
  });
})();
