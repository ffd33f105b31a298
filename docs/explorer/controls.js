// The controls: a method, a part for every slot, and a slider for every number.
"use strict";
(function (GA) {
  const QUESTIONS = {
    unit: "What is one event?", chart: "In which coordinate is the distance read?", sampling: "What pulls?",
    optimization: "What resists?", measure: "An average over what?",
  };
  const byId = (id) => document.getElementById(id);
  const toSlider = (r, v) => (r.log ? 1000 * Math.log(v / r.min) / Math.log(r.max / r.min) : v);
  const fromSlider = (r, v) => (r.log ? r.min * (r.max / r.min) ** (v / 1000) : Number(v));

  /** A slider of one number, with its symbol and its value; `send` gets the new number. */
  function slider(key, r, value, send, name = "") {
    const id = `n-${key}`;
    const symbol = GA.make("span", { class: "symbol" });
    GA.tex(symbol, r.label);
    const input = GA.make("input", {
      type: "range", id, min: r.log ? 0 : r.min, max: r.log ? 1000 : r.max, step: r.log ? 1 : r.step,
      oninput: () => { const v = fromSlider(r, Number(input.value)); send(r.step === 1 ? Math.round(v) : Number(v.toPrecision(3))); },
    });
    const output = GA.make("output", { for: id });
    const row = GA.make("div", { class: `slider ${name}`, "data-key": key }, GA.make("label", { for: id }, symbol), input, output);
    row.update = (v) => {
      if (document.activeElement !== input || Math.abs(fromSlider(r, Number(input.value)) - v) > 0.02 * Math.abs(v)) input.value = toSlider(r, v);
      input.setAttribute("aria-valuetext", GA.format(v));
      output.textContent = GA.format(v);
    };
    row.update(value);
    return row;
  }

  const slots = {};
  GA.setupControls = function () {
    const recipes = Object.keys(GA.data.recipes);
    const option = (name) => GA.make("option", { value: name }, name);
    byId("recipe").append(GA.make("option", { value: "" }, "own composition"), ...recipes.map(option));
    byId("recipe").addEventListener("change", (event) => event.target.value && GA.load(event.target.value));
    for (const [id, key] of [["first", "a"], ["second", "b"]]) {
      byId(id).append(...recipes.map(option));
      byId(id).addEventListener("change", (event) => GA.set({ [key]: event.target.value }));
    }
    byId("same").addEventListener("change", (event) => GA.set({ same: event.target.checked }));
    for (const slot of GA.SLOTS) {
      const select = GA.make("select", { id: `slot-${slot}`, onchange: () => {
        GA.set({ [slot]: GA.parse(select.value), coefficient: 1 });
      } });
      const sliders = GA.make("div", { class: "sliders" });
      byId("slots").append(GA.make("div", { class: `slot ${slot}` },
        GA.make("label", { for: select.id }, GA.make("b", {}, slot), GA.make("span", {}, QUESTIONS[slot])), select, sliders));
      slots[slot] = { select, sliders, shape: "" };
    }
    const extra = GA.make("div", { class: "slot ink extra" });
    extra.append(
      slider("g", { label: "g", min: -3, max: 3, step: 0.05 }, 1, GA.setDrive, "sampling"),
      slider("d", { label: "\\Delta", min: -3, max: 3, step: 0.01 }, 0, (v) => GA.set({ d: v }), "chart"),
      slider("x", { label: "\\text{axis }\\pm", min: 0.0005, max: 100, step: 0.0001, log: true }, 2, (v) => GA.set({ x: v })),
    );
    byId("slots").append(extra);
    slots.extra = extra;
    GA.view(drawControls);
  };

  function drawControls(s) {
    for (const slot of GA.SLOTS) {
      const { select, sliders } = slots[slot], part = s[slot], kind = part.class;
      const blank = (p) => JSON.stringify(p, (key, v) => (typeof v === "number" ? 0 : v));
      const offered = GA.choices[slot].map((text) => [text, GA.parse(text)]);
      const found = offered.find(([, other]) => blank(other) === blank(part));
      const text = found ? found[0] : GA.write(part);
      if (slots[slot].text !== text) {
        const allowed = offered.filter(([, p]) => slot !== "sampling" || (p.class === "Label") === (s.unit.class === "Pair"));
        const own = found ? [] : [[text, part]];
        select.replaceChildren(...[...own, ...allowed].map(([value, p]) => GA.make("option", { value }, short(p))));
        slots[slot].text = text;
      }
      select.value = text;
      const shape = kind + GA.numbers(part).map(([key]) => key).join();
      if (slots[slot].shape !== shape) {
        slots[slot].shape = shape;
        sliders.replaceChildren(...GA.numbers(part).map(([key, value]) => (
          slider(`${slot}-${key}`, GA.ranges[key], value, (v) => GA.setNumber(slot, key, v)))));
      }
      GA.numbers(part).forEach(([, value], i) => sliders.children[i].update(value));
    }
    const values = { g: s.g, d: s.d, x: s.x };
    for (const row of slots.extra.children) {
      const key = row.dataset.key, input = row.querySelector("input");
      const reach = key === "g" ? Math.max(3, 2 * Math.abs(s.g)) : Math.max(s.x, Math.abs(s.d));
      if (key !== "x" && input !== document.activeElement) {
        Object.assign(input, { min: -reach, max: reach, step: Number((reach / 200).toPrecision(1)) });
      }
      row.update(values[key]);
    }
    byId("first").value = s.a;
    byId("second").value = s.b;
    byId("same").checked = s.same;
    byId("count").value = String(s.r.length);
    drawName(s);
  }

  const short = (part) => {
    const nested = part.args.of ? `(${part.args.of.class})` : "";
    const words = Object.entries(part.args).filter(([key, v]) => typeof v === "string" && v !== GA.data.parts[part.class]?.defaults[key]);
    return part.class + nested + (words.length ? ` (${words.map(([, v]) => v.replace(/\(\)/g, "")).join(", ")})` : "");
  };

  function drawName(s) {
    const { exact, kin, nearest } = GA.names(s), code = (name) => GA.make("code", {}, name);
    const list = (names) => names.flatMap((name, i) => [i ? ", " : "", code(name)]);
    const sources = (names) => ` (${[...new Set(names.map((name) => GA.data.recipes[name].source))].join("; ")})`;
    byId("recipe").value = exact[0] ?? "";
    const text = exact.length ? ["This is ", ...list(exact), sources(exact), "."]
      : kin.length ? ["This is ", ...list(kin), sources(kin), ", with other numbers."]
        : ["This has no name among the recipes. The nearest is ", code(nearest.name), ", which differs in ", nearest.kind.join(" and "), "."];
    byId("name").replaceChildren(...text);
  }
})(window.GA);
