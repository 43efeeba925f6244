/* What the moving figures share: elements, numbers as text, matrices as tables, and the start on each page.
   A figure is `explorables.add(name, build)`; it is built into every <div class="explorable" data-name="name">.
   Classic scripts, because a page that was opened from disk may load no modules. */
const explorables = (() => {
  const figures = {};

  /** h("button", {class: "x", onclick: f}, "text", child): an element with attributes, listeners and children. */
  const h = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== false));
    return element;
  };

  /** A number with `digits` places; a true minus sign, and no "-0.00". */
  const number = (x, digits = 2) => {
    const text = x.toFixed(digits);
    return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
  };

  /** Blue for negative, orange for positive, as strong as |x| / most: safe for colour-blind eyes, light and dark. */
  const tint = (x, most = 1) => {
    const share = Math.round(70 * Math.min(1, Math.abs(x) / most));
    return `background: color-mix(in srgb, ${x < 0 ? "#0072b2" : "#e69f00"} ${share}%, transparent)`;
  };

  /** A matrix as a table; rows, columns: names for the headers. mark(i, j): a class for a cell, or nothing. */
  const matrix = (values, { rows, columns, caption, digits = 2, most = 1, mark = () => "" }) =>
    h("table", { class: "explorable-matrix" },
      h("caption", {}, caption),
      columns ? h("tr", {}, h("td"), columns.map((name) => h("th", { scope: "col" }, name))) : null,
      values.map((row, i) =>
        h("tr", {},
          rows ? h("th", { scope: "row" }, rows[i]) : null,
          row.map((x, j) =>
            x === null
              ? h("td", { class: "empty" }, "·")
              : h("td", { style: tint(x, most), class: mark(i, j) || false }, number(x, digits))))));

  /** A slider with its name and its value in words: {element, input, show(value)}. */
  const slider = (name, { min, max, step, value, say = (x) => number(x), change }) => {
    const shown = h("output", {}, say(value));
    const input = h("input", { type: "range", min, max, step, value, "aria-label": name });
    input.setAttribute("aria-valuetext", say(value));
    input.addEventListener("input", () => {
      show(Number(input.value));
      change(Number(input.value));
    });
    const show = (x) => {
      input.value = x;
      shown.textContent = say(x);
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    return { element: h("label", { class: "explorable-slider" }, h("span", {}, name), input, shown), input, show };
  };

  let groups = 0;
  /** One of several, as radio buttons: {element}; options: [[value, words]]. */
  const choice = (name, options, value, change) => {
    const group = `explorable-${(groups += 1)}`;
    return h("fieldset", { class: "explorable-choice" },
      h("legend", {}, name),
      options.map(([option, words]) =>
        h("label", {},
          h("input", { type: "radio", name: group, value: option, checked: option === value, onchange: () => change(option) }),
          words)));
  };

  const start = () => {
    for (const place of document.querySelectorAll(".explorable[data-name]")) {
      const build = figures[place.dataset.name];
      if (build) place.querySelector("figcaption").before(build()); // behind the frames that paper shows
    }
  };
  if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", start);

  return { add: (name, build) => (figures[name] = build), h, number, tint, matrix, slider, choice };
})();
if (typeof module !== "undefined") module.exports = explorables;
