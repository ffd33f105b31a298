// Start: read the address, set the views up, and compare the page's numbers with those of torch.
"use strict";
(function (GA) {
  const infinite = (x) => (x === "inf" ? Infinity : x === "-inf" ? -Infinity : x);

  /** The largest deviation of the page from torch, relative to numbers above one, over everything in data.js. */
  GA.compare = function (data) {
    let worst = 0, count = 0, where = "";
    const check = (mine, theirs, name) => {
      const wanted = infinite(theirs), gap = mine === wanted ? 0 : Math.abs(mine - wanted) / Math.max(1, Math.abs(wanted));
      count += 1;
      if (!(gap <= worst)) { worst = gap; where = name; }
    };
    for (const [name, recipe] of Object.entries(data.recipes)) {
      const event = GA.event(GA.recipeObjective(name));
      for (const reference of recipe.reference) {
        data.log_ratios.forEach((x, i) => {
          const here = event.at(x, reference.drive);
          for (const key of ["u", "energy", "force", "curvature", "pull", "bend"]) check(here[key], reference[key][i], `${name} ${key} at ${x}`);
        });
      }
    }
    for (const { sampling, reward, drive } of data.drives) {
      const mine = GA.drives(GA.parse(sampling), reward);
      drive.forEach((g, i) => check(mine[i], g, sampling));
    }
    for (const { recipe, reward, start, velocity, rest } of data.simplexes) {
      const objective = GA.recipeObjective(recipe);
      const drives = GA.pulls({ ...objective, r: reward }).drives;
      const { gradient } = GA.gradient(objective, drives, reward, start);
      velocity.forEach((v, i) => check(-gradient[i], v, `${recipe} velocity`));
      if (rest) {
        const found = GA.rest(objective, drives, reward, GA.flow(objective, drives, reward, reward.map(() => 0)).z);
        rest.forEach((p, i) => check(found?.[i] ?? NaN, p, `${recipe} rest`));
      }
    }
    for (const { optimization, strength, drive, probability } of data.targets) {
      const part = { class: optimization, args: { mu: strength, beta: strength } };
      const mine = GA.target(part, drive);
      probability.forEach((p, i) => check(mine[i], p, `target of ${optimization}`));
    }
    for (const { unit, measure, lengths, weight } of data.weights) {
      const mine = GA.tokenWeights(GA.parse(unit), GA.parse(measure), lengths);
      weight.forEach((w, i) => check(mine[i], w, `${unit} ${measure}`));
    }
    for (const { kind, cap, log_weight: logs, weight, ess } of data.policies) {
      const mine = GA.importance(kind, logs, cap);
      weight.forEach((w, i) => check(mine[i], w, kind));
      check(GA.effective(mine), ess, `ess ${kind}`);
    }
    return { worst, count, where };
  };

  function formula() {
    const colored = (slot, text) => `\\htmlClass{${slot}}{${text}}`;
    const parts = [
      `\\mathcal L(\\theta)=\\mathop{\\mathbb E}_{${colored("measure", "\\text{measure}")}}\\big[\\,${colored("optimization", "\\varphi(u)")}`
        + `-${colored("sampling", "g")}\\,u\\,\\big],`,
      `u=${colored("chart", "\\text{chart}")}\\big(${colored("unit", "\\text{unit}")}(\\log\\pi_\\theta-\\log\\pi_{\\text{anchor}})\\big)`,
    ];
    document.getElementById("formula").append(...parts.map((text) => {
      const span = GA.make("span", { class: "part" });
      katex.render(text, span, { throwOnError: false, trust: true, strict: false, output: "html" });
      return span;
    }));
  }

  formula();
  GA.state = GA.readAddress(location.hash);
  GA.setupControls();
  GA.setupEnergy();
  GA.setupSimplex();
  GA.setupOverlay();
  GA.setupMeasure();
  GA.setupPolicies();
  GA.setupPython();
  const { worst, count } = GA.compare(GA.data);
  document.getElementById("checked").textContent = `${count} numbers of this page were compared with PyTorch's when it opened; the largest deviation is ${worst.toExponential(0)}. `
    + `Of the recipes, ${Object.keys(GA.data.recipes).length} are shown; made of parts that the page does not have are ${GA.data.left_out.join(", ")}.`;
  addEventListener("hashchange", () => { GA.state = GA.readAddress(location.hash); GA.redraw(); });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; GA.redraw(); } });
  GA.redraw();
})(window.GA);
