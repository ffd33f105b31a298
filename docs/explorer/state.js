// One state. Every figure is a view of it, and the address after # holds it.
"use strict";
(function (GA) {
  const SLOTS = ["unit", "chart", "sampling", "optimization", "measure"];
  const range = (label, min, max, step, log = false) => ({ label, min, max, step, log });

  /** What the controls offer in every slot; a recipe may bring parts that are not among them. */
  GA.choices = {
    unit: ["Token()", "Sequence()", "MeanSequence()", "Pair()"],
    chart: ["LogRatio()", "Ratio()", "Power(power=0.5)", "Dual(divergence='KullbackLeibler() + PearsonChiSquare()')"],
    sampling: [
      "Advantage()", "GroupAdvantage()", "GroupAdvantage(scale='group')", "GroupAdvantage(baseline='leave_one_out')",
      "Escort(alpha=0.4)", "Label(strength=1)",
    ],
    optimization: [
      "Flat()", "ChiSquare(mu=1)", "KL(beta=1)", "ReverseKL(beta=1)", "Logistic(beta=1)", "Hinge(beta=1)", "Clip()",
      "SigmoidClip()", "AdvantageScaled(of=ChiSquare(mu=5))",
    ],
    measure: ["PooledMean()", "NestedMean()", "FixedBudget(length=256)"],
  };

  /** The numbers of a part that can be dragged: symbol and range. */
  GA.ranges = {
    mu: range("\\mu", 0.01, 100, 0.01, true), beta: range("\\beta", 0.01, 100, 0.01, true),
    low: range("\\varepsilon_{\\mathrm{low}}", 0.0001, 0.99, 0.0001, true),
    high: range("\\varepsilon_{\\mathrm{high}}", 0.0001, 3, 0.0001, true),
    alpha: range("\\alpha", 0, 1, 0.01), temperature: range("\\text{temperature}", 0.05, 10, 0.01, true),
    power: range("\\text{power}", -1, 2, 0.05), strength: range("g", 0.01, 100, 0.01, true),
    scale: range("\\text{scale}", 0.01, 10, 0.01, true), length: range("\\text{length}", 1, 1024, 1, true),
    positive: range("\\tau_+", 0.1, 10, 0.01, true), negative: range("\\tau_-", 0.1, 10, 0.01, true),
  };

  const round = (x) => Number(Number(x).toPrecision(6));
  const initial = () => ({
    ...Object.fromEntries(SLOTS.map((slot) => [slot, GA.parse(GA.data.recipes.opo.slots[slot])])),
    anchor: "old", coefficient: 1, g: 1, d: 0.5, x: 2, r: [1, 0.6, 0], z: [-0.5, 0.2, 0.3],
    a: "ppo", b: "cfpo", same: true, l: [3, 11], w: [0, 0.4, -0.5, 0.9, -1.2, 0.2], cap: 2,
  });

  GA.state = null;
  const views = [];
  GA.view = (draw) => views.push(draw);

  let queued = false;
  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      views.forEach((draw) => draw(GA.state));
      document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
    });
  }
  GA.redraw = redraw;

  /** Merge a change into the state: numbers to six digits, as the address has them. */
  GA.set = function (change) {
    for (const [key, value] of Object.entries(change)) {
      GA.state[key] = typeof value === "number" ? round(value) : Array.isArray(value) ? value.map(round) : value;
    }
    fit(GA.state);
    history.replaceState(null, "", `#${GA.address(GA.state)}`);
    redraw();
  };

  /** Change one number of the part in a slot, of the part that it wraps if it has none of its own. */
  GA.setNumber = function (slot, name, value) {
    const part = structuredClone(GA.state[slot]), change = { [slot]: part };
    const owner = name in part.args ? part : part.args.of;
    const label = GA.state.sampling.class === "Label" && GA.state.sampling.args.strength === owner.args[name];
    owner.args[name] = name === "power" && Math.abs(value) < 1e-9 ? 0.05 : round(value);
    // In DPO one β is both: as long as the label equals it, the two move together.
    if (slot === "optimization" && name === "beta" && label) change.sampling = GA.parse(`Label(strength=${owner.args[name]})`);
    GA.set(change);
  };

  /** Change the drive, which of a pair is the strength of its label. */
  GA.setDrive = function (value) {
    if (GA.state.sampling.class === "Label") GA.setNumber("sampling", "strength", Math.max(value, 0.01));
    else GA.set({ g: value });
  };

  GA.numbers = function (part) {
    if (part.class === "Indicator" || part.class === "ClippedImportance") return [];
    const own = Object.entries(part.args).filter(([key, v]) => typeof v === "number" && key in GA.ranges);
    return own.length || !part.args.of ? own : GA.numbers(part.args.of);
  };

  /** A pair has a label and a label needs a pair; the label is the drive. */
  function fit(s) {
    const pair = s.unit.class === "Pair", fixed = s.sampling.class === "Label";
    if (pair && !["Label", "Margin", "SoftLabel"].includes(s.sampling.class)) {
      s.sampling = GA.parse(`Label(strength=${s.optimization.args.beta ?? 1})`);
    }
    if (!pair && fixed) s.sampling = GA.parse("Advantage()");
    if (s.sampling.class === "Label") s.g = s.sampling.args.strength;
    if (s.z.length !== s.r.length) s.z = s.r.map((_, i) => s.z[i] ?? 0);
  }

  GA.address = function (s) {
    const query = new URLSearchParams();
    for (const slot of SLOTS) query.set(slot, GA.write(s[slot]));
    for (const key of ["anchor", "coefficient", "g", "d", "x", "a", "b", "same", "cap"]) query.set(key, String(s[key]));
    for (const key of ["r", "z", "l", "w"]) query.set(key, s[key].join(","));
    return query.toString();
  };

  /** The state that an address describes; what it does not name, or names wrongly, is as at the beginning. */
  GA.readAddress = function (text) {
    const query = new URLSearchParams(text.replace(/^#/, "")), s = initial();
    const named = query.get("recipe");
    if (named in GA.data.recipes) Object.assign(s, GA.slotsOf(named));
    for (const slot of SLOTS) {
      try { if (query.has(slot)) { const part = GA.parse(query.get(slot)); if (usable(slot, part)) s[slot] = part; } }
      catch { /* a part that cannot be read leaves the slot as it is */ }
    }
    const finite = (x) => x !== "" && Number.isFinite(Number(x));
    for (const key of ["coefficient", "g", "d", "x", "cap"]) if (finite(query.get(key) ?? "")) s[key] = round(query.get(key));
    if (!(s.x > 0)) s.x = 2;
    for (const key of ["r", "z", "l", "w"]) {
      const list = (query.get(key) ?? "").split(",");
      if (list.every(finite)) s[key] = list.map(round);
    }
    if (s.r.length < 3 || s.r.length > 5) s.r = initial().r;
    if (s.l.length !== 2) s.l = initial().l;
    s.l = s.l.map((n) => Math.min(40, Math.max(1, Math.round(n))));
    if (query.has("anchor")) s.anchor = { old: "old", reference: "reference" }[query.get("anchor")] ?? null;
    for (const key of ["a", "b"]) if (query.get(key) in GA.data.recipes) s[key] = query.get(key);
    if (query.has("same")) s.same = query.get("same") === "true";
    fit(s);
    return s;
  };
  function usable(slot, part) {
    if (slot === "chart") return part.class in GA.charts;
    if (slot === "optimization") return part.class in GA.potentials;
    return part.class in GA.data.parts;
  }

  // ---- Recipes.

  GA.recipeObjective = function (name) {
    const recipe = GA.data.recipes[name];
    const slots = Object.fromEntries(SLOTS.map((slot) => [slot, GA.parse(recipe.slots[slot])]));
    return { ...slots, anchor: recipe.anchor, coefficient: recipe.coefficient };
  };

  /** The state of a recipe: its slots, its drive, and an axis as wide as its equilibrium or its link. */
  GA.slotsOf = function (name) {
    const recipe = GA.data.recipes[name], objective = GA.recipeObjective(name), g = recipe.drive ?? 1;
    const { potential, chart } = GA.event(objective), beta = objective.optimization.args.beta;
    const rest = Math.abs(potential.rest(g) / chart.slope(0));
    const driven = recipe.drive === null, x = Number.isFinite(rest) && rest > 0 ? 2.5 * rest : !driven && beta ? 6 / beta : 2;
    const reach = driven ? Math.min(x, 2) : x;
    return { ...objective, g, x: round(reach), d: round(reach / 4) };
  };
  GA.load = (name) => GA.set(GA.slotsOf(name));

  /** Which recipes have the parts of the state: exactly, or of other numbers; else the nearest and where they differ. */
  GA.names = function (s) {
    const same = (part, other, numbers) => (numbers ? GA.write(part) === GA.write(other) : kind(part) === kind(other));
    const kind = (part) => GA.write({ class: part.class, args: Object.fromEntries(Object.entries(part.args).map(
      ([key, v]) => [key, typeof v === "number" ? 0 : v?.class ? { class: kind(v), args: {} } : v])) });
    const all = Object.keys(GA.data.recipes).map((name) => {
      const recipe = GA.recipeObjective(name);
      const differs = (numbers) => SLOTS.filter((slot) => !same(s[slot], recipe[slot], numbers));
      const anchor = recipe.anchor === s.anchor ? [] : ["anchor"];
      return { name, exact: [...differs(true), ...anchor], kind: [...differs(false), ...anchor] };
    });
    const exact = all.filter((r) => r.exact.length === 0 && GA.data.recipes[r.name].coefficient === s.coefficient);
    const kin = all.filter((r) => r.kind.length === 0);
    const nearest = all.slice().sort((p, q) => p.kind.length - q.kind.length)[0];
    return { exact: exact.map((r) => r.name), kin: kin.map((r) => r.name), nearest };
  };

  GA.SLOTS = SLOTS;
})(window.GA);
