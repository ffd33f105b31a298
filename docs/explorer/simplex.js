// Learning without noise on the simplex: the expected loss of a softmax policy over a few responses, as Tree.loss has it.
"use strict";
(function (GA) {
  const { exp, log, max, min, abs, sqrt } = Math;
  const sum = GA.sum;

  GA.softmax = function (z) {
    const top = max(...z), e = z.map((x) => exp(x - top)), total = sum(e);
    return e.map((x) => x / total);
  };
  const logSoftmax = function (z) {
    const top = max(...z), level = top + log(sum(z.map((x) => exp(x - top))));
    return z.map((x) => x - level);
  };

  /** ∂L/∂z of a policy with logits z; the anchor is uniform. `stiff` bounds how stiff the flow is there. */
  GA.gradient = function (objective, drives, rewards, z) {
    const event = GA.event(objective), n = z.length;
    const lp = logSoftmax(z), delta = lp.map((x) => x + log(n)), p = lp.map(exp);
    const pull = Array(n).fill(0);
    let stiff = 0;
    if (objective.unit.class === "Pair") {
      const pairs = [];
      for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) if (i !== j) {
        pairs.push([i, j, 1 / (1 + exp(rewards[j] - rewards[i]))]);
      }
      const total = sum(pairs.map((pair) => pair[2]));
      const shift = objective.unit.args.margin ?? 0, coefficient = objective.coefficient ?? 1;
      for (const [i, j, weight] of pairs) {
        const u = event.chart.value(delta[i]) - event.chart.value(delta[j]) - shift;
        const force = coefficient * (weight / total) * event.potential.force(u, drives[i]);
        const up = event.chart.slope(delta[i]), down = event.chart.slope(delta[j]);
        pull[i] += force * up;
        pull[j] -= force * down;
        const curvature = event.potential.curvature(u, drives[i]);
        stiff = max(stiff, (coefficient * weight / total) * curvature * (up * up + down * down));
      }
      stiff *= n;
    } else {
      delta.forEach((x, i) => {
        const here = event.at(x, drives[i]);
        pull[i] = -here.pull / n;
        stiff = max(stiff, abs(here.bend) / n);
      });
    }
    const total = sum(pull);
    return { gradient: pull.map((x, i) => x - p[i] * total), p, stiff: 2 * stiff + abs(total) };
  };

  /** The gradient flow of the logits by Runge and Kutta's method, in steps that bend little. */
  GA.flow = function (objective, drives, rewards, start, steps = 900) {
    const slope = (z) => GA.gradient(objective, drives, rewards, z).gradient.map((x) => -x);
    const along = (z, k, h) => z.map((x, i) => x + h * k[i]);
    let z = start.slice();
    const path = [GA.softmax(z)];
    for (let s = 0; s < steps; s += 1) {
      const { gradient, stiff } = GA.gradient(objective, drives, rewards, z);
      const size = sqrt(sum(gradient.map((x) => x * x)));
      if (size < 1e-7 || min(...path[path.length - 1]) < 1e-5) break;
      const h = min(1 / (stiff + 1e-12), 0.08 / size);
      const k1 = gradient.map((x) => -x), k2 = slope(along(z, k1, h / 2)), k3 = slope(along(z, k2, h / 2));
      const k4 = slope(along(z, k3, h));
      z = z.map((x, i) => x + (h / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
      path.push(GA.softmax(z));
    }
    return { path, z };
  };

  function solve(matrix, right) {
    const n = right.length, a = matrix.map((row, i) => [...row, right[i]]);
    for (let c = 0; c < n; c += 1) {
      const pivot = d3.maxIndex(a.slice(c), (row) => abs(row[c])) + c;
      [a[c], a[pivot]] = [a[pivot], a[c]];
      for (let r = 0; r < n; r += 1) if (r !== c) {
        const f = a[r][c] / a[c][c];
        for (let k = c; k <= n; k += 1) a[r][k] -= f * a[c][k];
      }
    }
    return a.map((row, i) => row[n] / row[i]);
  }

  /** Where the flow rests, by Newton's method from `z`: null unless the gradient comes down to rounding. */
  GA.rest = function (objective, drives, rewards, z) {
    if (!GA.potential(objective.optimization).smooth) return null;
    const at = (x) => GA.gradient(objective, drives, rewards, x).gradient, n = z.length, h = 1e-5;
    let x = z.slice(), size = Infinity;
    for (let step = 0; step < 25; step += 1) {
      const g = at(x);
      size = max(...g.map(abs));
      if (!Number.isFinite(size)) return null;
      const columns = x.map((_, j) => {
        const up = at(x.map((v, i) => v + (i === j ? h : 0))), down = at(x.map((v, i) => v - (i === j ? h : 0)));
        return up.map((v, i) => (v - down[i]) / (2 * h));
      });
      const move = solve(x.map((_, i) => columns.map((column) => column[i] + 1 / n)), g);
      x = x.map((v, i) => v - max(-1, min(1, move[i])));
      if (size < 1e-16) break;
    }
    const p = GA.softmax(x);
    return size < 1e-12 && min(...p) > 1e-6 ? p : null;
  };

  /** The target policy in the ratio chart, uniform anchor: the projection of χ², the Gibbs policy of KL; else null. */
  GA.target = function (optimization, drives) {
    const n = drives.length;
    if (optimization.class === "KL") return GA.softmax(drives.map((g) => g / optimization.args.beta));
    if (optimization.class !== "ChiSquare") return null;
    const v = drives.map((g) => g / optimization.args.mu), sorted = v.slice().sort(d3.descending);
    let level = 0, total = 0;
    sorted.forEach((x, k) => {
      total += x;  // if the largest k + 1 are kept, Σ (1 + v − λ) over them is n
      const lambda = (total + k + 1 - n) / (k + 1);
      if (1 + x - lambda > 0) level = lambda;
    });
    return v.map((x) => max(0, 1 + x - level) / n);
  };
})(window.GA);
