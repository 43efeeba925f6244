/* MathJax breaks long equations for the width that it finds; one that is still too wide is set smaller.
   A window of another width asks for both again. */
(() => {
  if (!window.MathJax) return; // a page without mathematics
  const fit = () =>
    document.querySelectorAll(".bd-article div.math").forEach((equation) => {
      equation.style.fontSize = "";
      if (equation.scrollWidth <= equation.clientWidth) return;
      const ratio = equation.clientWidth / equation.scrollWidth;
      equation.style.fontSize = `${Math.floor(98 * ratio)}%`;
    });
  window.MathJax.startup = {
    pageReady: () => MathJax.startup.defaultPageReady().then(fit),
  };
  let width = window.innerWidth, timer = 0;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (window.innerWidth === width || !MathJax.startup.document) return;
      width = window.innerWidth;
      MathJax.startup.promise = MathJax.startup.promise.then(() => MathJax.startup.document.rerenderPromise()).then(fit);
    }, 200);
  });
})();
