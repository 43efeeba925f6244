/* Sphinx's search fetches each page that it quotes. A page opened from disk may not, so it reads the texts from
   search_texts.js; every other request goes its usual way. */
(() => {
  const fetchPage = window.fetch.bind(window);
  window.fetch = (address, ...options) => {
    const text = window.searchTexts[String(address).replace(/^\.\//, "")];
    return text === undefined ? fetchPage(address, ...options) : Promise.resolve(new Response(text));
  };
})();
