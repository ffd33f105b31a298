// Sets every formula of a page: the TeX is in the page, KaTeX beside the explorer.
document.addEventListener("DOMContentLoaded", () => {
  for (const node of document.querySelectorAll(".tex")) {
    const displayMode = node.parentElement.tagName === "DIV" && node.parentElement.classList.contains("math");
    katex.render(node.textContent, node, { displayMode, throwOnError: false, strict: false });
  }
  document.documentElement.dataset.formulas = "set";
});

// What cannot break and is wider than its column becomes smaller, to seven tenths at the least; beyond that it scrolls.
const fit = () => {
  for (const node of document.querySelectorAll("div.math")) {
    node.style.fontSize = "";
    if (node.scrollWidth > node.clientWidth) node.style.fontSize = `${Math.max(0.7, (0.97 * node.clientWidth) / node.scrollWidth)}em`;
  }
};
window.addEventListener("load", () => document.fonts.ready.then(fit));
window.addEventListener("resize", fit);
