// The parts in JavaScript: charts, potentials and what pulls, with the formulas and the names that Python gives them.
"use strict";
(function (GA) {
  const { exp, expm1, log, log1p, abs, sign, max, min, sqrt } = Math;
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const mean = (values) => sum(values) / values.length;
  const softplus = (x) => (x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)));
  const sigmoid = (x) => (x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)));
  GA.sum = sum;

  // ---- A part is written as its Python call: `Escort(alpha=0.4)` ↔ {class: "Escort", args: {alpha: 0.4}}.

  GA.parse = function (text) {
    let at = 0;
    const words = new Map([["True", true], ["False", false], ["None", null]]);
    const fail = () => { throw new Error(`cannot read the part ${text}`); };
    function value() {
      const found = /^\s*(?:'([^']*)'|(-?[\d.]+(?:e[+-]?\d+)?)|([A-Za-z_]\w*))/.exec(text.slice(at));
      if (!found) fail();
      at += found[0].length;
      if (found[1] !== undefined) return found[1];
      if (found[2] !== undefined) return Number(found[2]);
      if (text[at] !== "(") return words.has(found[3]) ? words.get(found[3]) : fail();
      at += 1;
      const args = {};
      for (;;) {
        const key = /^\s*(?:(\w+)=)?/.exec(text.slice(at));
        if (text[at] === ")") { at += 1; return { class: found[3], args }; }
        at += key[0].length;
        args[key[1] ?? fail()] = text[at] === "(" ? tuple() : value();
        if (text[at] === ",") { at += 1; while (text[at] === " ") at += 1; }
      }
    }
    function tuple() {
      const end = text.indexOf(")", at) + 1;
      const inside = text.slice(at + 1, end - 1).split(",").filter((x) => x.trim()).map(Number);
      at = end;
      return inside;
    }
    const part = value();
    if (!part || !part.class) fail();
    return GA.complete(part);
  };

  /** A part with the defaults of the arguments that are not given. */
  GA.complete = function (part) {
    const args = {};
    for (const [key, value] of Object.entries(GA.data.parts[part.class]?.defaults ?? {})) {
      args[key] = typeof value === "string" && value.endsWith(")") ? GA.parse(value) : value;
    }
    return { class: part.class, args: { ...args, ...part.args } };
  };

  /** The Python of a part; `full` writes every argument, `prefix` the module that it is found in. */
  GA.write = function (part, prefix = false) {
    const known = GA.data.parts[part.class] ?? { path: `ga.${part.class}`, defaults: {} };
    const shown = (key, value) => {
      if (value === null) return "None";
      if (value === true || value === false) return value ? "True" : "False";
      if (typeof value === "number") return String(value);
      if (Array.isArray(value)) return `(${value.join(", ")})`;
      if (typeof value === "object") return GA.write(value, prefix);
      return key === "divergence" && prefix ? value.replace(/\b([A-Z])/g, "ga.$1") : `'${value}'`;
    };
    const plain = (value) => (value && value.class ? GA.write(value) : JSON.stringify(value));
    const args = Object.entries(part.args).filter(([key, value]) => {
      const usual = known.defaults[key];
      if (usual === undefined) return true;
      const text = typeof usual === "string" && usual.endsWith(")") ? GA.write(GA.parse(usual)) : JSON.stringify(usual);
      return plain(value) !== text;
    });
    const inside = args.map(([key, value]) => `${key}=${shown(key, value)}`).join(", ");
    return `${prefix ? known.path : part.class}(${inside})`;
  };

  // ---- Charts: u(Δ), its slope and its second derivative.

  const DUALS = {
    KullbackLeibler: { value: (x) => x, slope: () => 1, bend: () => 0 },
    PearsonChiSquare: { value: expm1, slope: exp, bend: exp },
    ReverseKullbackLeibler: { value: (x) => -expm1(-x), slope: (x) => exp(-x), bend: (x) => -exp(-x) },
  };

  GA.charts = {
    LogRatio: ({ scale }) => ({
      value: (x) => scale * x, slope: () => scale, bend: () => 0,
      latex: scale === 1 ? "\\Delta" : `${scale}\\,\\Delta`,
    }),
    Ratio: () => ({ value: expm1, slope: exp, bend: exp, latex: "e^{\\Delta}-1" }),
    Power: ({ power: p }) => ({
      value: (x) => expm1(p * x) / p, slope: (x) => exp(p * x), bend: (x) => p * exp(p * x),
      latex: `(e^{${p}\\Delta}-1)/${p}`,
    }),
    Dual: ({ divergence }) => {
      const parts = divergence.split(" + ").map((name) => DUALS[name.replace("()", "")]);
      const all = (method) => (x) => sum(parts.map((part) => part[method](x)));
      return { value: all("value"), slope: all("slope"), bend: all("bend"), latex: "\\psi'(e^{\\Delta})" };
    },
    Sigmoid: ({ scale, shift }) => {
      const at = (x) => scale * (x - shift);
      const low = -1 / (1 + exp(scale * shift));
      return {
        value: (x) => sigmoid(at(x)) + low,
        slope: (x) => scale * sigmoid(at(x)) * sigmoid(-at(x)),
        bend: (x) => scale * scale * sigmoid(at(x)) * sigmoid(-at(x)) * (sigmoid(-at(x)) - sigmoid(at(x))),
        latex: `\\sigma(${scale}\\,\\Delta)-${-low}`,
      };
    },
  };

  // ---- Potentials: energy φ(u, g) − g·u, its first two derivatives, and where the force vanishes.

  const decoupled = (value, mirror, curvature, rest, latex, more = {}) => ({
    energy: (u, g) => value(u) - g * u, force: (u, g) => mirror(u) - g, curvature, rest, latex, ...more,
  });
  const endless = (g) => (g === 0 ? 0 : sign(g) * Infinity);

  GA.potentials = {
    Flat: () => decoupled(() => 0, () => 0, () => 0, endless, "0", { smooth: false }),
    Indicator: ({ low, high }) => decoupled(
      () => 0, () => 0, () => 0, (g) => (g > 0 ? high : g < 0 ? low : 0), "0", { smooth: false },
    ),
    ChiSquare: ({ mu }) => decoupled(
      (u) => 0.5 * mu * u * u, (u) => mu * u, () => mu, (g) => g / mu, `\\tfrac{${mu}}{2}u^2`,
    ),
    KL: ({ beta }) => {
      const inside = (u) => max(u, Number.EPSILON - 1);
      return decoupled(
        (u) => { const x = inside(u); return beta * ((1 + x) * log1p(x) - x + log1p(x) * (u - x)); },
        (u) => beta * log1p(inside(u)), (u) => (inside(u) === u ? beta / (1 + u) : 0), (g) => expm1(g / beta),
        `${beta}\\left((1+u)\\log(1+u)-u\\right)`, { low: -1 },
      );
    },
    ReverseKL: ({ beta }) => decoupled(
      (u) => beta * (expm1(-u) + u), (u) => -beta * expm1(-u), (u) => beta * exp(-u),
      (g) => (g < beta ? -log1p(-g / beta) : Infinity), `${beta}\\left(e^{-u}+u-1\\right)`,
    ),
    Logistic: ({ beta }) => ({
      energy: (u, g) => (g / beta) * softplus(-beta * u) + (1 - g / beta) * softplus(beta * u),
      force: (u, g) => (beta - g) * sigmoid(beta * u) - g * sigmoid(-beta * u),
      curvature: (u) => beta * beta * sigmoid(beta * u) * sigmoid(-beta * u),
      rest: (g) => (g <= 0 ? -Infinity : g >= beta ? Infinity : log(g / (beta - g)) / beta),
      latex: `\\log\\left(1+e^{${beta}u}\\right)`,
    }),
    Hinge: ({ beta }) => ({
      energy: (u, g) => (g / beta) * max(0, 1 - beta * u) + (1 - g / beta) * (1 + max(0, beta * u - 1)),
      force: (u, g) => (beta * u > 1 ? beta - g : beta * u < 1 ? -g : 0),
      curvature: () => 0, rest: (g) => (g < 0 ? -Infinity : g > beta ? Infinity : 1 / beta),
      latex: `\\max(1,${beta}u)`, smooth: false,
    }),
    SquaredHinge: ({ beta }) => decoupled(
      (u) => max(0, 1 - beta * u) ** 2 + 2 * beta * u, (u) => 2 * beta * min(beta * u, 1),
      (u) => (beta * u < 1 ? 2 * beta * beta : 0), (g) => (g <= 2 * beta ? g / (2 * beta * beta) : Infinity),
      `(1-${beta}u)_+^2+${2 * beta}u`,
    ),
    Clip: ({ low, high, dual }) => {
      const far = dual === null ? Infinity : dual - 1;
      const clipped = (u, g) => (g >= 0 ? min(u, high) : min(max(u, -low), far));
      return {
        energy: (u, g) => -g * clipped(u, g), force: (u, g) => (clipped(u, g) === u ? -g : 0), curvature: () => 0,
        rest: (g) => (g > 0 ? high : g < 0 ? -low : 0), coupled: true, smooth: false,
        latex: low === high ? `|g|\\left(\\operatorname{sgn}(g)\\,u-${high}\\right)_+`
          : `g_+\\left(u-${high}\\right)_++(-g)_+\\left(-u-${low}\\right)_+`,
      };
    },
    SigmoidClip: ({ positive, negative }) => {
      const tau = (g) => (g > 0 ? positive : negative);
      const bell = (x) => sigmoid(x) * sigmoid(-x);
      return {
        energy: (u, g) => (-g * 4 / tau(g)) * sigmoid(tau(g) * u), force: (u, g) => -4 * g * bell(tau(g) * u),
        curvature: (u, g) => 4 * g * tau(g) * bell(tau(g) * u) * Math.tanh(tau(g) * u / 2),
        rest: endless, coupled: true, smooth: false,
        latex: "g\\left(u-\\tfrac{4}{\\tau}\\sigma(\\tau u)\\right)",
      };
    },
    AdvantageScaled: ({ of }) => {
      const inner = GA.potential(of);
      return {
        energy: (u, g) => abs(g) * inner.energy(u, sign(g)), force: (u, g) => abs(g) * inner.force(u, sign(g)),
        curvature: (u, g) => abs(g) * inner.curvature(u), rest: (g) => inner.rest(sign(g)), coupled: true,
        latex: `|g|\\cdot ${inner.latex}`,
      };
    },
  };

  GA.chart = (part) => GA.charts[part.class](part.args);
  GA.potential = (part) => ({ smooth: true, low: -Infinity, ...GA.potentials[part.class](part.args) });

  /** One event of an objective at a log-ratio and a drive: every number that a figure shows. */
  GA.event = function (objective) {
    const chart = GA.chart(objective.chart), potential = GA.potential(objective.optimization);
    const { sampling, coefficient = 1 } = objective;
    const shift = objective.unit.args.margin ?? 0;
    const weight = (x) => (sampling.class === "ClippedImportance"
      ? exp(min(max(x, log(sampling.args.low ?? 0)), log(sampling.args.high ?? Infinity))) : 1);
    const at = function (x, drive) {
      const u = chart.value(x) - shift, slope = chart.slope(x), g = drive * weight(x);
      const force = potential.force(u, g), curvature = potential.curvature(u, g);
      return {
        u, slope, g, force, curvature, energy: coefficient * potential.energy(u, g), mirror: force + g,
        potential: potential.energy(u, g) + g * u, pull: -coefficient * force * slope,
        bend: coefficient * (curvature * slope * slope + force * chart.bend(x)),
      };
    };
    return { at, chart, potential };
  };

  // ---- What pulls: the drives of the responses to one prompt. Null where the page does not have the part.

  const centred = (r) => { const m = mean(r); return r.map((x) => x - m); };
  const PULLS = {
    Advantage: (_, r) => centred(r),
    GroupAdvantage: ({ baseline, scale, ddof, epsilon }, r) => {
      if (scale === "batch") return null;
      const base = centred(r), n = r.length;
      const lifted = { none: r, leave_one_out: base.map((x) => x * n / (n - 1)) }[baseline] ?? base;
      if (scale === "none") return lifted;
      const variance = sum(base.map((x) => x * x)) / max(n - ddof, 1);
      return lifted.map((x) => (variance > 0 ? x / (sqrt(variance) + epsilon) : 0));
    },
    Escort: ({ alpha, temperature, scaled, inverse_probability }, r) => {
      if (inverse_probability) return null;
      if (scaled && alpha === 1) return centred(r.map((x) => x / temperature));
      const exponent = r.map((x) => (1 - alpha) * x / temperature), top = max(...exponent);
      const level = log1p(mean(exponent.map((x) => expm1(x - top))));
      return exponent.map((x) => expm1(x - top - level) / (scaled ? 1 - alpha : 1));
    },
    ClippedImportance: ({ of }, r) => GA.drives(of, r),
    Label: ({ strength }, r) => r.map(() => strength),
  };
  GA.drives = (part, rewards) => PULLS[part.class]?.(part.args, rewards) ?? null;

  // ---- Measures: what one token of a response weighs in the gradient, under the drive 1 at the anchor.

  GA.tokenWeights = function (unit, measure, lengths) {
    const total = sum(lengths), rows = lengths.length, token = unit.class === "Token";
    return lengths.map((length) => {
      const event = {
        PooledMean: token ? 1 / total : 1 / rows,
        NestedMean: token ? 1 / (rows * length) : 1 / rows,
        FixedBudget: 1 / (rows * measure.args.length),
      }[measure.class];
      return unit.class === "MeanSequence" ? event / length : event;
    });
  };

  // ---- Three policies: importance weights of the rollout engine.

  GA.importance = (kind, logWeights, cap) => logWeights.map(exp).map((w) => (
    kind === "cap" ? min(w, cap) : kind === "mask" ? (w <= cap ? w : 0) : w));
  GA.effective = function (weights) {
    const square = sum(weights.map((w) => w * w));
    return square > 0 ? sum(weights) ** 2 / square : 0;
  };
})(window.GA);
