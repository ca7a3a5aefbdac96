"""Five steps of torch.optim's AdamW and SGD with moving rates: optim.json for
src/network/optim/tests.rs."""

import json
import pathlib

import torch

torch.manual_seed(0)
start, gradients = torch.randn(8), [torch.randn(8) * s for s in (1.0, 0.1, 3.0, 1e-3, 1.0)]
rates = [(1.6e-4, 0.95), (2e-3, 0.9), (4e-3, 0.85), (3e-3, 0.88), (1e-5, 0.949)]


def run(kind, decay):
    p = torch.nn.Parameter(start.clone())
    adamw = kind == "adamw"
    o = (
        torch.optim.AdamW([p], 1e-3, (0.9, 0.99), 1e-8, decay)
        if adamw
        else torch.optim.SGD([p], 1e-3, 0.9, weight_decay=decay)
    )
    for (lr, momentum), g in zip(rates, gradients):
        o.param_groups[0]["lr"] = lr
        o.param_groups[0].update({"betas": (momentum, 0.99)} if adamw else {"momentum": momentum})
        p.grad = g.clone()
        o.step()
    return p.tolist()


out = {
    "start": start.tolist(),
    "gradients": [g.tolist() for g in gradients],
    "rates": rates,
    "decay": 0.05,
}
for kind in ("adamw", "sgd"):
    out[kind] = {"decayed": run(kind, 0.05), "plain": run(kind, 0.0)}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out) + "\n")
