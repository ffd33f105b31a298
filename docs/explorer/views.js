// Views 1 and 3: one event's potential, force and target; two methods over each other.
"use strict";
(function (GA) {
  const { max, min, abs } = Math;
  const figure = (name) => document.querySelector(`[data-figure="${name}"]`);
  const report = (name) => document.querySelector(`[data-report="${name}"]`);
  const remark = (name) => document.querySelector(`[data-remark="${name}"]`);
  Object.assign(GA, { figureOf: figure, reportOf: report, remarkOf: remark });
  const grid = (low, high, n = 240) => d3.range(n + 1).map((k) => low + (high - low) * k / n);
  const extent = (values, ...also) => {
    const [low, high] = d3.extent([...values.filter(Number.isFinite), ...also]);
    const pad = 0.08 * (high - low || 1);
    return [low - pad, high + pad];
  };

  GA.setupEnergy = function () {
    const potential = new GA.Plot(figure("potential"), { label: "The potential over the coordinate u", x: "coordinate u", y: "potential φ(u) and pull g·u" });
    const force = new GA.Plot(figure("force"), { label: "The slope of the potential and the drive", x: "coordinate u", y: "resistance φ′(u) and drive g" });
    const pull = new GA.Plot(figure("pull"), { label: "The pull on the log-ratio", x: "log-ratio Δ", y: "pull on Δ" });
    GA.view((s) => {
      const { at, potential: phi, chart } = GA.event(s), g = s.g;
      const xs = grid(-s.x, s.x), points = xs.map((x) => at(x, g)), here = at(s.d, g);
      const us = [points[0].u, points[points.length - 1].u], rest = phi.rest(g);
      const restMirror = phi.force(rest, g) + g, step = s.x / 50;

      // The potential, a line of slope g that touches it at the target, and the grip that sets its stiffness.
      const values = points.map((p) => p.potential), height = max(...values, abs(g) * s.x * 0.5, 1e-12);
      potential.begin(us, extent([min(...values), height]));
      const touch = Number.isFinite(rest) ? phi.energy(rest, g) : 0;
      potential.curve(us.map((u) => [u, g * u + touch]), "sampling dashed");
      potential.curve(points.map((p) => [p.u, p.potential]), "optimization");
      if (Number.isFinite(rest)) potential.dot(rest, phi.energy(rest, g) + g * rest, "ink", "u*");
      stiffnessGrips(potential, s, at, us);

      force.begin(us, extent(points.map((p) => p.mirror), g, 0));
      force.curve(us.map((u) => [u, g]), "sampling");
      force.curve(points.map((p) => [p.u, p.mirror]), "optimization");
      force.curve([[here.u, here.mirror], [here.u, here.g]], "ink thin");
      if (Number.isFinite(rest)) force.dot(rest, s.optimization.class === "Clip" ? g : restMirror, "ink", "u*");
      force.handle("drive", {
        label: "drive g", name: "sampling", x: us[0] + 0.85 * (us[1] - us[0]), y: g, value: g,
        move: (_, y) => GA.setDrive(y), nudge: (dx, dy) => GA.setDrive(s.g + 0.05 * (dx + dy) * max(1, abs(s.g))),
      });
      force.handle("delta", {
        label: "coordinate u of the event", name: "chart", x: here.u, y: here.mirror, value: here.u,
        move: (u) => GA.set({ d: inverse(chart, u + (s.unit.args.margin ?? 0), s.x) }), nudge: (dx, dy) => GA.set({ d: s.d + step * (dx + dy) }),
      });

      pull.begin([-s.x, s.x], extent(points.map((p) => p.pull), 0));
      pull.curve(xs.map((x, i) => [x, points[i].pull]), "ink");
      pull.curve([[s.d, 0], [s.d, here.pull]], "ink thin");
      pull.handle("log-ratio", {
        label: "log-ratio Δ of the event", name: "chart", x: s.d, y: here.pull, value: s.d,
        move: (x) => GA.set({ d: max(-s.x, min(s.x, x)) }), nudge: (dx, dy) => GA.set({ d: s.d + step * (dx + dy) }),
      });
      GA.report(report("energy"), {
        Δ: s.d, u: here.u, g: here.g, "φ(u)": here.potential, "φ′(u)": here.mirror, "φ″(u)": here.curvature, energy: here.energy, "pull on Δ": here.pull, "u*": rest,
        coupled: phi.coupled ? "yes: the potential contains g" : "no",
      });
    });
  };

  /** Δ of a coordinate, by halving. */
  function inverse(chart, u, reach) {
    let low = -reach, high = reach;
    for (let k = 0; k < 60; k += 1) { const mid = (low + high) / 2; if (chart.value(mid) < u) low = mid; else high = mid; }
    return (low + high) / 2;
  }

  /** A grip on the potential for its μ or β, or one on every wall for its ε. */
  function stiffnessGrips(plot, s, at, us) {
    const part = s.optimization, clip = part.class === "Clip";
    const owner = "mu" in part.args || "beta" in part.args ? part : part.args.of ?? part;
    const name = "mu" in owner.args ? "mu" : "beta" in owner.args ? "beta" : null;
    const x = 0.75 * s.x, here = at(x, s.g), r = GA.ranges[name ?? "mu"];
    const set = (value) => GA.setNumber("optimization", name, max(r.min, min(r.max, value)));
    plot.handle("stiffness", {
      show: name !== null, label: name === "mu" ? "stiffness μ" : "strength β", name: "optimization", x: here.u, y: here.potential,
      value: owner.args[name] ?? 0, nudge: (dx, dy) => set(owner.args[name] * 1.05 ** (dx + dy)),
      move: (_, y) => {
        let low = Math.log(r.min), high = Math.log(r.max);
        for (let k = 0; k < 50; k += 1) {
          const mid = (low + high) / 2, trial = structuredClone(part);
          (name in trial.args ? trial : trial.args.of).args[name] = Math.exp(mid);
          if (GA.event({ ...s, optimization: trial }).at(x, s.g).potential < y) low = mid; else high = mid;
        }
        set(Math.exp(low));
      },
    });
    for (const [key, direction] of [["high", 1], ["low", -1]]) {
      const value = part.args[key], keep = (v) => GA.setNumber("optimization", key, max(1e-4, min(key === "low" ? 0.99 : 3, v)));
      plot.handle(key, {
        show: clip && direction * value > us[0] && direction * value < us[1], label: `wall ε ${key}`, name: "optimization",
        x: clip ? direction * value : 0, y: 0, value: value ?? 0, move: (u) => keep(direction * u),
        nudge: (dx, dy) => keep(value * 1.05 ** (direction * dx + dy)),
      });
    }
  }

  GA.setupOverlay = function () {
    const pull = new GA.Plot(figure("overlay-pull"), { label: "The pull of two methods over the log-ratio", x: "log-ratio Δ", y: "pull on Δ" });
    const bend = new GA.Plot(figure("overlay-bend"), { label: "The curvature of two methods over the log-ratio", x: "log-ratio Δ", y: "curvature ∂²/∂Δ²" });
    GA.view((s) => {
      const both = [s.a, s.b].map((name) => {
        const recipe = GA.data.recipes[name], event = GA.event(GA.recipeObjective(name));
        const g = recipe.drive ?? s.g, anchor = event.at(0, g);
        const factor = s.same && anchor.pull !== 0 ? 1 / abs(anchor.pull) : 1;
        return { name, g, at: (x) => { const p = event.at(x, g); return { pull: factor * p.pull, bend: factor * p.bend }; }, fixed: recipe.drive !== null };
      });
      const xs = grid(-s.x, s.x, 300), looks = ["first", "second dashed"];
      for (const [plot, key] of [[pull, "pull"], [bend, "bend"]]) {
        const lines = both.map((m) => xs.map((x) => m.at(x)[key]));
        // Curves that leave the window far out must not flatten what happens near the anchor.
        const near = lines.flatMap((line) => line.slice(110, 191)).filter(Number.isFinite), shown = both.map((m) => m.at(s.d)[key]);
        const most = 1.6 * max(...near.map(abs), 1e-12), fit = (v) => max(-most, min(most, v));
        plot.begin([-s.x, s.x], extent([...lines.flat().filter(Number.isFinite).map(fit), ...shown], 0));
        lines.forEach((line, k) => plot.curve(xs.map((x, i) => [x, line[i]]), looks[k]));
        both.forEach((m, k) => plot.dot(s.d, m.at(s.d)[key], looks[k].split(" ")[0], m.name, 8, k ? 16 : -8));
      }
      pull.handle("overlay-delta", {
        label: "log-ratio Δ at which the two are compared", name: "chart", x: s.d, y: 0, value: s.d,
        move: (x) => GA.set({ d: max(-s.x, min(s.x, x)) }), nudge: (dx, dy) => GA.set({ d: s.d + s.x / 50 * (dx + dy) }),
      });
      const [p, q] = both, [p0, q0] = [p.at(0), q.at(0)], [pd, qd] = [p.at(s.d), q.at(s.d)];
      GA.report(report("overlay"), {
        Δ: s.d, [`pull of ${p.name}`]: pd.pull, [`pull of ${q.name} `]: qd.pull,
        [`curvature of ${p.name}`]: pd.bend, [`curvature of ${q.name} `]: qd.bend,
      });
      const close = (a, b) => abs(a - b) <= 1e-9 * max(1, abs(a), abs(b));
      remark("overlay").textContent = (close(p0.pull, q0.pull)
        ? `At the anchor both pull with ${GA.format(p0.pull)}` : `At the anchor they pull with ${GA.format(p0.pull)} and ${GA.format(q0.pull)}`)
        + (close(p0.bend, q0.bend) ? ` and have the same curvature, ${GA.format(p0.bend)}.` : `; their curvatures there are ${GA.format(p0.bend)} and ${GA.format(q0.bend)}.`)
        + (both.some((m) => m.fixed) ? " The drive of a pair is set by its label, not by g." : "");
    });
  };
})(window.GA);
