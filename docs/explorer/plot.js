// A figure: axes, curves, and handles that a pointer drags and the arrow keys move.
"use strict";
(function (GA) {
  const reduced = (x) => (Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(1) : `${Number(x.toPrecision(4))}`);
  GA.format = (x) => (Number.isFinite(x) ? reduced(x).replace("-", "−") : x > 0 ? "∞" : x < 0 ? "−∞" : "–");
  GA.tex = (node, text) => katex.render(text, node, { throwOnError: false });

  GA.Plot = class {
    /** In `host`; `label` is what a screen reader says, `x` and `y` name the axes. */
    constructor(host, { label, x = "", y = "", height = 230, axes = true }) {
      this.host = host;
      this.axes = axes;
      this.height = height;
      this.margin = axes ? { top: 22, right: 16, bottom: 34, left: 44 } : { top: 8, right: 8, bottom: 8, left: 8 };
      this.svg = d3.select(host).append("svg").attr("role", "group").attr("aria-label", label);
      this.back = this.svg.append("g").attr("class", "axes");
      this.clip = `clip-${GA.Plot.count = (GA.Plot.count ?? 0) + 1}`;
      this.window = this.svg.append("clipPath").attr("id", this.clip).append("rect");
      this.front = this.svg.append("g").attr("class", "curves").attr("clip-path", `url(#${this.clip})`);
      this.marks = this.svg.append("g").attr("class", "marks");
      this.handles = this.svg.append("g").attr("class", "handles");
      this.names = { x, y };
      this.frozen = null;
    }

    /** Start a drawing over a rectangle. While a handle is dragged the axes stay. */
    begin(xs, ys) {
      if (this.frozen) [xs, ys] = this.frozen;
      this.domains = [xs, ys];
      const width = Math.max(220, this.host.clientWidth || 300), { top, right, bottom, left } = this.margin;
      this.width = width;
      this.svg.attr("viewBox", `0 0 ${width} ${this.height}`).attr("width", width).attr("height", this.height);
      this.x = d3.scaleLinear(xs, [left, width - right]);
      this.y = d3.scaleLinear(ys, [this.height - bottom, top]);
      this.window.attr("x", left).attr("y", top - 1).attr("width", width - left - right)
        .attr("height", this.height - top - bottom + 2);
      this.front.selectAll("*").remove();
      this.marks.selectAll("*").remove();
      this.back.selectAll("*").remove();
      if (this.axes) this.drawAxes();
    }

    drawAxes() {
      const { back, x, y, width, height, margin } = this;
      const axis = (kind, scale, shift, ticks) => back.append("g").attr("transform", shift)
        .call(kind(scale).tickValues(ticks).tickFormat((v) => GA.format(v)).tickSizeOuter(0));
      const across = x.ticks(Math.min(6, width / 60));
      axis(d3.axisBottom, x, `translate(0,${height - margin.bottom})`, this.names.x === "response" ? x.ticks().filter(Number.isInteger) : across);
      axis(d3.axisLeft, y, `translate(${margin.left},0)`, y.ticks(5));
      for (const [x1, x2, y1, y2] of [[0, 0, ...y.domain()], [...x.domain(), 0, 0]]) {
        if (x1 >= x.domain()[0] && x1 <= x.domain()[1] && y1 >= y.domain()[0] && y1 <= y.domain()[1]) {
          back.append("line").attr("class", "zero").attr("x1", x(x1)).attr("x2", x(x2)).attr("y1", y(y1)).attr("y2", y(y2));
        }
      }
      back.append("text").attr("class", "axis-name").attr("x", width - margin.right).attr("y", height - 4)
        .attr("text-anchor", "end").text(this.names.x);
      back.append("text").attr("class", "axis-name").attr("x", 6).attr("y", 13).text(this.names.y);
    }

    curve(points, name) {
      const inside = ([a, b]) => Number.isFinite(a) && Number.isFinite(b);
      const [low, high] = this.y.domain(), far = 4 * (high - low);
      const line = d3.line(([a]) => this.x(a), ([, b]) => this.y(Math.max(low - far, Math.min(high + far, b)))).defined(inside);
      return this.front.append("path").attr("class", `curve ${name}`).attr("d", line(points));
    }

    dot(x, y, name, text = "", dx = 8, dy = -8) {
      if (!Number.isFinite(x) || !Number.isFinite(y)) return;
      const [left, right] = this.x.domain();
      if (x < left || x > right) return;
      this.marks.append("circle").attr("class", `dot ${name}`).attr("cx", this.x(x)).attr("cy", this.y(y)).attr("r", 4.5);
      if (text) {
        const left = dx < 0 || this.x(x) + dx + 8 * text.length > this.width;
        this.marks.append("text").attr("class", `note ${name}`).attr("x", this.x(x) + (left ? -Math.abs(dx) : dx))
          .attr("y", this.y(y) + dy).attr("text-anchor", left ? "end" : "start").text(text);
      }
    }

    /**
     * A handle at (x, y). `move(x, y)` is told where it goes in units of the axes; `nudge(dx, dy)` moves it by steps
     * of the arrow keys. `value` and `text` are what a screen reader says of it.
     */
    handle(id, { label, x, y, move, nudge, value, text, name, show = true }) {
      const plot = this, found = this.handles.selectAll(`[data-handle="${id}"]`);
      if (!show || !Number.isFinite(x) || !Number.isFinite(y)) { found.remove(); return; }
      let g = found;
      if (found.empty()) {
        g = this.handles.append("g").attr("data-handle", id).attr("tabindex", 0).attr("role", "slider");
        g.append("circle").attr("class", "halo").attr("r", 17);
        g.append("circle").attr("class", "grip").attr("r", 7);
        g.call(d3.drag().container(this.svg.node())
          .on("start", () => { plot.frozen = plot.domains; g.classed("held", true); g.node().focus(); })
          .on("drag", (event) => g.datum().move(plot.x.invert(event.x), plot.y.invert(event.y)))
          .on("end", () => { plot.frozen = null; g.classed("held", false); GA.redraw(); }));
        g.on("keydown", (event) => {
          const step = event.shiftKey ? 10 : 1;
          const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
            PageUp: [0, 10], PageDown: [0, -10] }[event.key] ?? [0, 0];
          if (dx || dy) { event.preventDefault(); g.datum().nudge(dx * step, dy * step); }
        });
      }
      const cx = Math.max(4, Math.min(this.width - 4, this.x(x))), cy = Math.max(4, Math.min(this.height - 4, this.y(y)));
      g.datum({ x: cx, y: cy, move, nudge }).attr("class", `handle ${name}`).classed("held", this.frozen !== null && g.classed("held"))
        .attr("transform", `translate(${cx},${cy})`).attr("aria-label", label).attr("aria-valuenow", value)
        .attr("aria-valuetext", text ?? GA.format(value));
    }
  };

  /** An element made of a tag, attributes and children. */
  GA.make = function (tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  };

  /** Numbers under a figure: `{name: value}`, each in full in `data-value`. */
  GA.report = function (node, values) {
    node.replaceChildren(...Object.entries(values).map(([name, value]) => {
      const shown = typeof value === "number" ? GA.format(value) : value;
      return GA.make("span", { class: "number" }, `${name} `,
        GA.make("output", { "data-name": name, "data-value": String(value) }, shown));
    }));
  };
})(window.GA);
