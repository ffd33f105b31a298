// Views 2, 4 and 5: a policy on the simplex, the tokens of two responses, the weights of a rollout engine.
"use strict";
(function (GA) {
  const { max, min, abs, log, exp, round } = Math;
  const { figureOf, reportOf, remarkOf } = GA;

  /** The drives of the responses by what the state says pulls; by the advantage where the page does not have that part. */
  GA.pulls = function (s) {
    const drives = GA.drives(s.sampling, s.r);
    return { drives: drives ?? GA.drives(GA.parse("Advantage()"), s.r), own: drives !== null };
  };

  GA.setupSimplex = function () {
    const plot = new GA.Plot(figureOf("simplex"), { label: "The policies over the responses, as points of a polygon", height: 340, axes: false });
    const bars = new GA.Plot(figureOf("rewards"), { label: "The reward of every response, and its probability at the anchor, at the start and at the end", x: "response", y: "reward (grips), probability (bars)", height: 340 });
    document.getElementById("count").addEventListener("change", (event) => {
      const n = Number(event.target.value), { r, z } = GA.state;
      GA.set({ r: d3.range(n).map((i) => r[i] ?? [1, 0.6, 0, 0.3, 0.8][i]), z: d3.range(n).map((i) => z[i] ?? 0) });
    });
    GA.view((s) => {
      const n = s.r.length, { drives, own } = GA.pulls(s), start = GA.softmax(s.z);
      const { path, z } = GA.flow(s, drives, s.r, s.z), last = path[path.length - 1];
      const rest = GA.rest(s, drives, s.r, z);
      const target = s.chart.class === "Ratio" && s.unit.class !== "Pair" && s.sampling.class !== "ClippedImportance" ? GA.target(s.optimization, drives) : null;
      const end = target ?? rest ?? last;

      const width = max(220, plot.host.clientWidth || 300), tall = 324, half = width / 2 / (tall / 2);
      const room = n === 3 ? [-0.72, 1.25] : [-1.22, 1.22], wide = half * (room[1] - room[0]) / 2;
      plot.begin([-wide, wide], room);
      const corners = d3.range(n).map((i) => [Math.sin(2 * Math.PI * i / n), Math.cos(2 * Math.PI * i / n)]);
      const at = (p) => [GA.sum(p.map((v, i) => v * corners[i][0])), GA.sum(p.map((v, i) => v * corners[i][1]))];
      plot.curve([...corners, corners[0]], "edge");
      corners.forEach(([x, y], i) => plot.marks.append("text").attr("class", "corner").attr("x", plot.x(1.12 * x))
        .attr("y", plot.y(1.12 * y) + 4).attr("text-anchor", "middle").text(`y${"₁₂₃₄₅"[i]}`));
      if (n === 3) field(plot, s, drives, at);
      plot.curve(path.map(at), "ink");
      plot.dot(...at(Array(n).fill(1 / n)), "muted", "anchor", -8, 4);
      plot.dot(...at(end), "optimization", target || rest ? "target" : "end of path", 8, 16);
      const reach = (p) => GA.set({ z: p.map((v) => log(max(v, 1e-4) * n)) });
      plot.handle("policy", {
        label: "the policy at the start", name: "chart", x: at(start)[0], y: at(start)[1], value: start[0],
        text: start.map((p, i) => `response ${i + 1}: ${p.toFixed(2)}`).join(", "),
        move: (x, y) => reach(towards(start, corners, x, y)),
        nudge: (dx, dy) => reach(towards(start, corners, at(start)[0] + 0.04 * dx, at(start)[1] + 0.04 * dy)),
      });

      const low = min(0, ...s.r) - 0.4, high = max(1, ...s.r) + 0.3;
      bars.begin([0.4, n + 0.6], [low, high]);
      s.r.forEach((r, i) => {
        const tell = [["muted", 1 / n], ["chart", start[i]], ["optimization", end[i]]];
        tell.forEach(([name, p], k) => bars.front.append("rect").attr("class", `bar ${name}`)
          .attr("x", bars.x(i + 1) - 20 + 14 * k).attr("width", 12).attr("y", bars.y(max(0, p))).attr("height", abs(bars.y(p) - bars.y(0))));
        bars.handle(`reward-${i}`, {
          label: `reward of response ${i + 1}`, name: "sampling", x: i + 1, y: r, value: r,
          move: (_, y) => GA.set({ r: s.r.map((v, j) => (j === i ? max(-3, min(3, y)) : v)) }),
          nudge: (dx, dy) => GA.set({ r: s.r.map((v, j) => (j === i ? v + 0.05 * (dx + dy) : v)) }),
        });
      });
      for (let i = n; i < 5; i += 1) bars.handle(`reward-${i}`, { show: false });
      GA.report(reportOf("simplex"), {
        ...Object.fromEntries(drives.map((g, i) => [`g${"₁₂₃₄₅"[i]}`, g])),
        ...Object.fromEntries(end.map((p, i) => [`${target || rest ? "π*" : "π at the end, "}${"₁₂₃₄₅"[i]}`, p])),
      });
      remarkOf("simplex").textContent = [
        "Grips set the rewards; the bars are the probabilities of each response at the anchor (grey), at the start (green) and at the end (orange).",
        own ? "" : `The page does not compute ${s.sampling.class}; the plain advantage pulls here.`,
        target ? "In the ratio chart the target is known in closed form." : rest ? "The target is where the gradient vanishes." :
          "There is no single resting point: the path is followed until nothing pulls or a corner is reached.",
        n > 3 ? "The polygon is a shadow of the simplex: different policies can fall on one point." : "",
      ].join(" ");
    });
  };

  /** The policy nearest to `p` whose place in the polygon is (x, y), inside the simplex. */
  function towards(p, corners, x, y) {
    let q = p.slice();
    const n = q.length;
    for (let k = 0; k < 60; k += 1) {
      const off = [x - GA.sum(q.map((v, i) => v * corners[i][0])), y - GA.sum(q.map((v, i) => v * corners[i][1]))];
      q = q.map((v, i) => max(0.002, v + (2 / n) * (off[0] * corners[i][0] + off[1] * corners[i][1])));
      const total = GA.sum(q);
      q = q.map((v) => v / total);
    }
    return q;
  }

  function field(plot, s, drives, at) {
    const m = 13, arrows = [];
    for (let i = 1; i < m; i += 1) for (let j = 1; j < m - i; j += 1) {
      const p = [i, j, m - i - j].map((v) => v / m), { gradient } = GA.gradient(s, drives, s.r, p.map(log));
      const drift = GA.sum(gradient.map((v, k) => -v * p[k]));
      arrows.push([at(p), at(p.map((v, k) => v * (-gradient[k] - drift)))]);
    }
    const longest = d3.max(arrows, ([, v]) => Math.hypot(...v)) || 1;
    for (const [[x, y], [dx, dy]] of arrows) {
      const size = Math.hypot(dx, dy) || 1, length = 0.09 * Math.sqrt(size / longest);
      plot.front.append("line").attr("class", "arrow").attr("x1", plot.x(x)).attr("y1", plot.y(y))
        .attr("x2", plot.x(x + length * dx / size)).attr("y2", plot.y(y + length * dy / size));
      plot.front.append("circle").attr("class", "tail").attr("cx", plot.x(x)).attr("cy", plot.y(y)).attr("r", 1.3);
    }
  }

  GA.setupMeasure = function () {
    const rows = [["Token()", "PooledMean()"], ["Token()", "NestedMean()"], ["Token()", "FixedBudget(length=16)"],
      ["Sequence()", "PooledMean()"], ["MeanSequence()", "PooledMean()"]];
    const plot = new GA.Plot(figureOf("measure"), { label: "The weight of every token of two responses, under five measures", height: 452, axes: false });
    GA.view((s) => {
      plot.begin([0, 43], [rows.length, -0.1]);
      const step = plot.x(1) - plot.x(0), height = plot.y(1) - plot.y(0);
      const inner = s.unit.class === "Pair" ? s.unit.args.of : s.unit;
      const cells = rows.map(([unit, measure]) => {
        const m = GA.parse(measure);
        if (m.class === "FixedBudget" && s.measure.class === "FixedBudget") m.args.length = s.measure.args.length;
        return { unit: GA.parse(unit), measure: m, weights: GA.tokenWeights(GA.parse(unit), m, s.l) };
      });
      cells.forEach(({ unit, measure, weights }, k) => {
        const top = plot.y(k), chosen = unit.class === inner.class && (unit.class !== "Token" || measure.class === s.measure.class);
        if (chosen) plot.marks.append("rect").attr("class", "chosen").attr("x", 2).attr("y", top + 2).attr("width", plot.width - 4).attr("height", height - 4).attr("rx", 4);
        plot.marks.append("text").attr("class", "row-name measure").attr("x", 10).attr("y", top + 18)
          .text(`${unit.class} · ${GA.write(measure)}`);
        const full = max(...weights), area = (w) => Math.sqrt(full > 0 ? w / full : 0);
        s.l.forEach((length, i) => {
          const y = top + 38 + 26 * i, side = min(18, step * 0.92);
          for (let t = 0; t < length; t += 1) {
            const size = side * area(weights[i]);
            plot.front.append("rect").attr("class", "cell-edge").attr("x", plot.x(t + 0.4)).attr("y", y - side / 2).attr("width", side).attr("height", side);
            plot.front.append("rect").attr("class", "cell").attr("x", plot.x(t + 0.4) + (side - size) / 2).attr("y", y - size / 2).attr("width", size).attr("height", size);
          }
          plot.marks.append("text").attr("class", "note muted").attr("x", plot.width - 10).attr("y", top + 18).attr("text-anchor", "end")
            .text(weights.map((w) => GA.format(w)).join("  |  "));
          if (k === 0) plot.handle(`length-${i}`, {
            label: `length of response ${i + 1} in tokens`, name: "chart", x: length + 0.4, y: plot.y.invert(y), value: length,
            move: (x) => setLength(i, x - 0.4), nudge: (dx, dy) => setLength(i, s.l[i] + dx + dy),
          });
        });
      });
      const [w1, w2] = GA.tokenWeights(inner, s.measure, s.l);
      GA.report(reportOf("measure"), {
        "length 1": s.l[0], "length 2": s.l[1], "a token of 1": w1, "a token of 2": w2,
        "all of 1": w1 * s.l[0], "all of 2": w2 * s.l[1],
      });
    });
    const setLength = (i, value) => GA.set({ l: GA.state.l.map((v, j) => (j === i ? max(1, min(40, round(value))) : v)) });
  };

  GA.setupPolicies = function () {
    const logs = new GA.Plot(figureOf("log-weights"), { label: "The log-ratio of the old policy to the engine's, of six responses", x: "response", y: "log(π old / π engine)" });
    const plot = new GA.Plot(figureOf("weights"), { label: "The importance weights, capped and masked", x: "response", y: "importance weight" });
    GA.view((s) => {
      const n = s.w.length, plain = GA.importance("plain", s.w, s.cap);
      const capped = GA.importance("cap", s.w, s.cap), masked = GA.importance("mask", s.w, s.cap);
      logs.begin([0.4, n + 0.6], [-2.2, 2.2]);
      logs.curve([[0.4, log(s.cap)], [n + 0.6, log(s.cap)]], "measure dashed");
      s.w.forEach((w, i) => {
        logs.curve([[i + 1, 0], [i + 1, w]], "chart thin");
        const put = (v) => GA.set({ w: GA.state.w.map((x, j) => (j === i ? max(-2.2, min(2.2, v)) : x)) });
        logs.handle(`w-${i}`, {
          label: `log weight of response ${i + 1}`, name: "chart", x: i + 1, y: w, value: w,
          move: (_, y) => put(y), nudge: (dx, dy) => put(w + 0.05 * (dx + dy)),
        });
      });
      plot.begin([0.4, n + 0.6], [0, max(1.2, s.cap, ...plain) * 1.08]);
      plot.curve([[0.4, s.cap], [n + 0.6, s.cap]], "measure dashed");
      plain.forEach((w, i) => {
        [["muted", w], ["sampling", capped[i]], ["optimization", masked[i]]].forEach(([name, v], k) => plot.front.append("rect").attr("class", `bar ${name}`)
          .attr("x", plot.x(i + 1) - 15 + 10 * k).attr("width", 9).attr("y", plot.y(v)).attr("height", plot.y(0) - plot.y(v)));
      });
      const keep = (v) => GA.set({ cap: max(0.1, min(9, v)) });
      plot.handle("cap", {
        label: "cap of the importance weight", name: "measure", x: n + 0.35, y: s.cap, value: s.cap,
        move: (_, y) => keep(y), nudge: (dx, dy) => keep(s.cap + 0.05 * (dx + dy)),
      });
      const second = GA.sum(plain.map((w) => w * w)) / n;
      GA.report(reportOf("policies"), {
        cap: s.cap, "ESS plain": GA.effective(plain), "ESS capped": GA.effective(capped), "ESS masked": GA.effective(masked),
        "mean weight": GA.sum(plain) / n, "mean capped": GA.sum(capped) / n, "mean masked": GA.sum(masked) / n, "mean w²": second,
      });
      remarkOf("policies").textContent = `Of ${n} responses the effective number is (Σw)²/Σw². Grey: the weight. Blue: capped, TruncatedImportance(cap=${GA.format(s.cap)}). `
        + `Orange: masked, MaskedImportance(high=${GA.format(s.cap)}, level="sequence", importance="sequence"). `
        + "A cap lowers the variance and pulls the mean below that of the weights; a mask changes which responses count at all.";
    });
  };
})(window.GA);
