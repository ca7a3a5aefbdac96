"""Losses by their definitions, one set at a time in f64, with PyTorch's gradients: losses.json for
src/network/loss/tests.rs."""

import json
import pathlib

import torch

torch.manual_seed(0)
N, C = 6, 28
logits = (torch.randn(N, C, dtype=torch.float64) * 2).float().double()
targets = (torch.rand(N, C) < 0.15).double()
targets[1] = 0  # a sample without a label
targets[2] = 1  # one with all
targets[:, 5] = 0  # a class without positives
logits[3] = torch.round(logits[3])  # ties
logits[4, ::2], targets[4, ::2] = 0.5, torch.tensor([1.0, 0] * 7).double()
logits[5, :6] = torch.tensor([-60.0, 60, 30, -30, 0, 0])  # saturated, right and wrong
logits.requires_grad_()


def lovasz(x, y):
    """Berman's lovasz_hinge_flat; entries with equal errors keep their order."""
    errors = 1 - x * (2 * y - 1)
    order = sorted(range(len(y)), key=lambda i: -errors[i].item())
    total, positives = y.sum(), 0.0
    negatives, before, loss = 0.0, 0.0, 0.0
    for i in order:
        positives, negatives = positives + y[i].item(), negatives + 1 - y[i].item()
        jaccard = 1 - (total.item() - positives) / (total.item() + negatives)
        loss = loss + torch.relu(errors[i]) * (jaccard - before)
        before = jaccard
    return loss


def soft_f1(x, y):
    p = torch.sigmoid(x)
    precision, recall = (y * p).sum() / (p.sum() + 1e-6), (y * p).sum() / (y.sum() + 1e-6)
    return 1 - 2 * precision * recall / (precision + recall + 1e-6)


def focal(x, y, gamma, alpha, reduce):
    entries = torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p = torch.sigmoid(x)
    # The probability of the wrong answer without cancellation.
    wrong = torch.where(y == 1, torch.sigmoid(-x), p)
    entries = entries * (wrong**gamma)
    if alpha:
        entries = entries * torch.where(y == 1, alpha, 1 - alpha)
    return entries.sum(-1) if reduce == "sum" else entries.mean(-1)


def sets(over):
    return {
        "batch": [(logits.reshape(-1), targets.reshape(-1))],
        "sample": list(zip(logits, targets)),
        "class": list(zip(logits.T, targets.T)),
    }[over]


mean = lambda values: torch.stack(list(values)).mean()
cases = []


def case(settings, value, rows):
    (gradient,) = torch.autograd.grad(value, logits)
    cases.append(
        {
            "losses": settings,
            "value": value.item(),
            "gradient": gradient.tolist(),
            "per_sample": [r.item() for r in rows],
        }
    )


off = {"bce": 0.0, "focal": 0.0, "lovasz": 0.0, "soft_f1": 0.0}
for over in ("batch", "sample", "class"):
    case(
        {**off, "lovasz": 1.0, "lovasz_over": over},
        mean(lovasz(x, y) for x, y in sets(over)),
        [lovasz(x, y) for x, y in sets("sample")],
    )
    case(
        {**off, "soft_f1": 1.0, "soft_f1_over": over},
        mean(soft_f1(x, y) for x, y in sets(over)),
        [soft_f1(x, y) for x, y in sets("sample")],
    )
for gamma, alpha, reduce in (
    (2.0, 0.0, "mean"),
    (2.0, 0.25, "sum"),
    (0.5, 0.0, "sum"),
    (0.0, 0.0, "mean"),
):
    rows = focal(logits, targets, gamma, alpha, reduce)
    case(
        {**off, "focal": 1.0, "focal_gamma": gamma, "focal_alpha": alpha, "focal_reduce": reduce},
        rows.mean(),
        rows,
    )
bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
case({**off, "bce": 1.0}, bce.mean(), bce.mean(-1))
# The recipe of the original: a plain sum.
seed = (
    mean(lovasz(x, y) for x, y in sets("batch"))
    + focal(logits, targets, 2.0, 0.0, "mean").mean()
    + 0.5 * mean(soft_f1(x, y) for x, y in sets("sample"))
)
settings = {
    "bce": 0.0,
    "focal": 1.0,
    "lovasz": 1.0,
    "soft_f1": 0.5,
    "focal_gamma": 2.0,
    "focal_reduce": "mean",
    "lovasz_over": "batch",
    "soft_f1_over": "sample",
}
case(settings, seed, [])

short = lambda x: (
    [short(v) for v in x]
    if isinstance(x, list)
    else float(f"{x:.9g}")
    if isinstance(x, float)
    else x
)
cases = [{k: short(v) for k, v in c.items()} for c in cases]
out = {"logits": logits.tolist(), "targets": targets.tolist(), "cases": cases}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out) + "\n")
