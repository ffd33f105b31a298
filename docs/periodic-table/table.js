// Filters, the chosen recipe and the arrow keys. The address after # holds the state.
"use strict";
(function () {
  const recipes = JSON.parse(document.getElementById("recipes").textContent);
  const form = document.getElementById("filters"), detail = document.getElementById("detail");
  const count = document.getElementById("count"), tiles = [...document.querySelectorAll(".tile")];
  const menus = [...form.querySelectorAll("select")];
  const SLOTS = ["unit", "chart", "sampling", "optimization", "measure"];
  // Inside the built documentation the catalogue is HTML; in the repository it is Markdown.
  const catalogue = document.querySelector(".crumb") ? "../catalogue/recipes.html" : "../catalogue/recipes.md";
  let chosen = "";

  const values = (name, of) => SLOTS.includes(of) ? recipes[name].classes[of] : [recipes[name][of]];

  /** The recipes that pass all filters, or all but one. */
  function passing(except) {
    const text = form.elements.name.value.trim().toLowerCase();
    return Object.keys(recipes).filter((name) =>
      (name.includes(text) || recipes[name].source.toLowerCase().includes(text) || recipes[name].title.toLowerCase().includes(text)) &&
      menus.every((menu) => menu.name === except || !menu.value || values(name, menu.name).includes(menu.value)));
  }

  function fillMenus() {
    for (const menu of menus) {
      const all = new Set(Object.keys(recipes).flatMap((name) => values(name, menu.name)));
      for (const value of [...all].sort()) menu.append(new Option(value, value));
    }
  }

  /** Beside every option, how many recipes it would leave. */
  function count_options() {
    for (const menu of menus) {
      const left = passing(menu.name);
      for (const option of menu.options) {
        if (!option.value) continue;
        const n = left.filter((name) => values(name, menu.name).includes(option.value)).length;
        option.textContent = `${option.value} (${n})`;
        option.disabled = n === 0 && menu.value !== option.value;
      }
    }
  }

  function draw() {
    const shown = new Set(passing());
    for (const tile of tiles) {
      tile.hidden = !shown.has(tile.dataset.recipe);
      tile.setAttribute("aria-pressed", String(tile.dataset.recipe === chosen));
    }
    for (const cell of document.querySelectorAll("#table tbody td")) {
      cell.classList.toggle("empty", !cell.querySelector(".tile:not([hidden])"));
    }
    count.textContent = shown.size === tiles.length ? `${tiles.length} recipes` : `${shown.size} of ${tiles.length} recipes`;
    count_options();
    describe();
    const query = new URLSearchParams();
    for (const field of [form.elements.name, ...menus]) if (field.value) query.set(field.name, field.value);
    if (chosen) query.set("recipe", chosen);
    history.replaceState(null, "", query.size ? `#${query}` : location.pathname + location.search);
  }

  const element = (tag, text, attributes = {}) => {
    const node = Object.assign(document.createElement(tag), attributes);
    if (text) node.textContent = text;
    return node;
  };

  function describe() {
    detail.hidden = !chosen;
    detail.replaceChildren();
    if (!chosen) return;
    const recipe = recipes[chosen];
    const line = element("div", "", { className: "headline" });
    const close = element("button", "Close", { type: "button" });
    close.addEventListener("click", () => { const last = chosen; choose(""); tileOf(last)?.focus(); });
    line.append(element("h2", chosen), element("code", recipe.call), close);
    const source = element("p");
    if (recipe.url) source.append(element("a", recipe.title, { href: recipe.url }), ` (${recipe.source})`);
    else source.append(`${recipe.title} (${recipe.source})`);
    source.append(". One event is a " + recipe.event + "; " + (recipe.decoupled === "yes" ? "decoupled. " : "not decoupled. "));
    source.append(element("a", "Its definition in the catalogue", { href: `${catalogue}#${chosen.replaceAll("_", "-")}` }));
    if (recipe.explorer) source.append(" · ", element("a", "drag it in the explorer", { href: `../explorer/index.html#recipe=${chosen}` }));
    const formula = element("div", "", { className: "formula", tabIndex: 0, role: "group", ariaLabel: "formula" });
    katex.render(recipe.latex, formula, { displayMode: false, throwOnError: false, output: "htmlAndMathml", strict: "ignore" });
    const box = element("div", "", { className: "parts" }), table = element("table"), head = element("tr");
    for (const name of ["", ...SLOTS]) head.append(element("th", name, { scope: "col" }));
    table.append(head);
    for (const term of recipe.terms) {
      const row = element("tr");
      term.forEach((part, i) => { const cell = element("td"); cell.append(element(i ? "code" : "span", part)); row.append(cell); });
      table.append(row);
    }
    box.append(table);
    detail.append(line, source, formula, box);
  }

  const tileOf = (name) => tiles.find((tile) => tile.dataset.recipe === name);

  function choose(name) {
    chosen = name in recipes ? name : "";
    draw();
  }

  /** The nearest visible tile in the direction of an arrow key; sideways counts double. */
  function neighbour(tile, dx, dy) {
    const middle = (node) => { const b = node.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
    const [x, y] = middle(tile);
    let best = null, distance = Infinity;
    for (const other of tiles) {
      if (other.hidden || other === tile) continue;
      const [ox, oy] = middle(other), along = (ox - x) * dx + (oy - y) * dy, across = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
      if (along > 4 && along + 2 * across < distance) { best = other; distance = along + 2 * across; }
    }
    return best;
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.getElementById("table").addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key], tile = event.target.closest(".tile");
    if (!arrow || !tile) return;
    event.preventDefault();
    neighbour(tile, ...arrow)?.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen) { const last = chosen; choose(""); tileOf(last)?.focus(); }
  });
  for (const tile of tiles) tile.addEventListener("click", () => choose(tile.dataset.recipe === chosen ? "" : tile.dataset.recipe));
  form.addEventListener("input", draw);
  form.addEventListener("reset", () => setTimeout(draw));
  form.addEventListener("submit", (event) => event.preventDefault());

  function read() {
    const query = new URLSearchParams(location.hash.slice(1));
    for (const field of [form.elements.name, ...menus]) {
      const value = query.get(field.name) ?? "";
      field.value = field.tagName === "INPUT" || [...field.options].some((option) => option.value === value) ? value : "";
    }
    choose(query.get("recipe") ?? "");
  }
  fillMenus();
  window.addEventListener("hashchange", read);
  read();
  document.documentElement.dataset.drawn = "1";
})();
