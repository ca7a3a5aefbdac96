"""timm's SE-ResNeXt with weights and input from a closed formula: network.json for
tests/parity.rs.

Every number is an exact function of (place of the tensor among the sorted names, place in the
tensor), so that the test needs no weight file. Filled in f32, computed in f64."""

import json
import math
import pathlib

import numpy as np
import timm
import torch
from timm.models.senet import SENet, SEResNeXtBottleneck

torch.manual_seed(0)
torch.set_num_threads(2)


def noise(key, shape):
    """Uniform in [-1, 1) with 24 bits, from a mixed 64-bit integer."""
    h = (np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(key * 1000003)) * np.uint64(
        0x9E3779B97F4A7C15
    )
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h ^= h >> np.uint64(32)
    return torch.from_numpy(
        ((h >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape)
    )


def fill(model):
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    for key, name in enumerate(sorted(state)):
        v, shape = state[name], tuple(state[name].shape)
        n = noise(key, shape)
        if len(shape) > 1:
            v.copy_(n * np.float32(math.sqrt(3 / math.prod(shape[1:]))))
        elif name.endswith("running_var") or name.endswith("weight"):
            v.copy_(1 + n * np.float32(0.25))
        else:
            v.copy_(n * np.float32(0.125))


class SeedHead(torch.nn.Module):
    def __init__(self, features, hidden=1024, classes=28):
        super().__init__()
        self.bn1, self.fc1 = (
            torch.nn.BatchNorm1d(2 * features),
            torch.nn.Linear(2 * features, hidden),
        )
        self.bn2, self.fc2 = torch.nn.BatchNorm1d(hidden), torch.nn.Linear(hidden, classes)

    def forward(self, x):
        pooled = [
            torch.nn.functional.adaptive_avg_pool2d(x, 1),
            torch.nn.functional.adaptive_max_pool2d(x, 1),
        ]
        return self.fc2(self.bn2(torch.relu(self.fc1(self.bn1(torch.cat(pooled, 1).flatten(1))))))


class Seed(torch.nn.Module):
    """The original: stride 3 in the first convolution, average and max pooling, two layers."""

    def __init__(self, body):
        super().__init__()
        self.body, self.head = body, SeedHead(2048)
        body.layer0.conv1.stride = (3, 3)
        del body.last_linear

    def state_dict(self):
        return {k.removeprefix("body."): v for k, v in super().state_dict().items()}

    def forward(self, x):
        return self.head(self.body.forward_features(x))


def small(channels):
    return SENet(
        SEResNeXtBottleneck,
        (1, 1, 1, 1),
        groups=32,
        reduction=16,
        drop_rate=0.0,
        in_chans=channels,
        num_classes=28,
    )


def logits(model, channels, side):
    fill(model)
    with torch.no_grad():
        return model.double().eval()(noise(999, (2, channels, side, side)).double()).tolist()


def gradients(model, n, side):
    """Of each parameter: the L2 norm and the product with a fixed direction."""
    fill(model)
    y = (noise(998, (n, 28)) > 0.5).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        model.double().train()(noise(999, (n, 4, side, side)).double()), y
    )
    loss.backward()
    of = {
        k: [p.grad.norm().item(), (p.grad * noise(997, tuple(p.shape))).sum().item()]
        for k, p in model.named_parameters()
    }
    moved = {k: v.norm().item() for k, v in model.state_dict().items() if "running" in k}
    return {"loss": loss.item(), "gradients": of, "running": moved}


out = {
    "se_resnext50_32x4d": logits(
        timm.create_model("legacy_seresnext50_32x4d", in_chans=4, num_classes=28), 4, 64
    ),
    "se_resnext14_32x4d_seed": logits(Seed(small(4)), 4, 96),
    "se_resnext14_32x4d_3ch": logits(small(3), 3, 64),
    "training": gradients(small(4), 16, 64),
}
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(out, indent=0) + "\n")
