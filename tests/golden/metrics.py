"""Makes metrics.json: what scikit-learn says to made scores (continuous, with many ties, with
classes that lack positives)."""

import json, os, warnings

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

warnings.filterwarnings("ignore")
r = np.random.default_rng(7)
cases = []
for name, n, digits, threshold in (
    ("continuous", 60, 6, 0.5),
    ("ties", 80, 1, 0.2),
    ("few", 5, 2, 0.35),
):
    y = (r.random((n, 28)) < np.linspace(0.02, 0.5, 28)).astype(int)
    y[:, 3] = 0
    s = np.round(np.clip(0.35 * y + r.random((n, 28)) * 0.65, 0, 1), digits)
    s[:, 5] = 0.1
    q = (s > threshold).astype(int)
    p, rec, f, _ = precision_recall_fscore_support(y, q, average=None, zero_division=0)
    ap = [average_precision_score(y[:, c], s[:, c]) for c in range(28)]
    cases.append(
        dict(
            name=name,
            scores=s.tolist(),
            truth=y.tolist(),
            threshold=threshold,
            macro_f1=f1_score(y, q, average="macro", zero_division=0),
            micro_f1=f1_score(y, q, average="micro", zero_division=0),
            precision=p.tolist(),
            recall=rec.tolist(),
            f1=f.tolist(),
            average_precision=[float(a) for a in ap],
            map=float(np.mean(ap)),
        )
    )
json.dump(cases, open(os.path.join(os.path.dirname(__file__), "metrics.json"), "w"))
