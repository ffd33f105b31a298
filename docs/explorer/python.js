// View 6: the Python that composes what is shown, and computes the numbers of the first view.
"use strict";
(function (GA) {
  const real = (x) => (Number.isInteger(x) ? x.toFixed(1) : String(x));
  const list = (values) => `[${values.map(real).join(", ")}]`;

  GA.python = function (s) {
    const anchor = s.anchor === null ? "None" : `"${s.anchor}"`, pair = s.unit.class === "Pair";
    const scaled = s.coefficient !== 1, reference = s.anchor === "reference";
    const slots = GA.SLOTS.map((slot) => `    ${slot}=${GA.write(s[slot], true)},`);
    const head = [
      "import torch", "import geomalign as ga", "", "torch.set_default_dtype(torch.float64)",
      "objective = ga.Objective(", ...slots, `    anchor=${anchor},`, ")",
    ];
    const event = [
      "", "# One event: its coordinate, energy and force at a log-ratio and a drive.",
      `log_ratio, drive = torch.tensor(${real(s.d)}), torch.tensor(${real(GA.event(s).at(s.d, s.g).g)})`,
      `u = objective.chart(log_ratio)${s.unit.args.margin ? ` - ${s.unit.args.margin}` : ""}`,
      "print(u.item(), objective.optimization.energy(u, drive).item(), objective.optimization.force(u, drive).item())",
    ];
    const kept = [
      scaled ? `loss = ${s.coefficient} * objective(batch).loss` : "loss = objective(batch).loss",
      "loss.backward()", "print(loss.item())",
    ];
    const rewards = [
      "", `# ${s.r.length} answers of one token to one prompt, at the policy from which the second figure starts.`,
      `reward = torch.tensor(${list(s.r)})`,
      `policy = torch.tensor(${list(s.z)}, requires_grad=True)`,
      "log_prob = policy.log_softmax(0)[:, None]",
      "anchor = torch.zeros_like(policy).log_softmax(0)[:, None]",
      `batch = ga.Batch(log_prob, anchor, reward=reward, advantage=reward - reward.mean()${reference ? ", reference=anchor" : ""})`,
      ...kept,
    ];
    const pairs = [
      "", "# One pair: the chosen response has moved from the reference, the rejected one has not.",
      "chosen = log_ratio[None, None].clone().requires_grad_()",
      "zero = torch.zeros(1, 1)",
      "batch = ga.PreferenceBatch(chosen, zero, zero, zero, margin=torch.ones(1))",
      ...kept,
    ];
    return [...head, ...event, ...(pair ? pairs : rewards), ""].join("\n");
  };

  GA.setupPython = function () {
    const code = document.getElementById("python"), told = document.getElementById("copied");
    document.getElementById("copy").addEventListener("click", async () => {
      const done = () => { told.textContent = "Copied."; setTimeout(() => { told.textContent = ""; }, 2000); };
      try { await navigator.clipboard.writeText(code.textContent); done(); }
      catch {
        // Without a server there may be no clipboard: select the program, so that the reader copies it.
        const range = document.createRange();
        range.selectNodeContents(code);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        told.textContent = "Selected: press Ctrl-C.";
      }
    });
    GA.view((s) => { code.textContent = GA.python(s); });
  };
})(window.GA);
