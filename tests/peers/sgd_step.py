"""timm's SE-ResNeXt50 with random weights: logits in evaluation and one SGD step in training mode,
as safetensors."""

import argparse

import timm
import torch
from safetensors.torch import save_file

a = argparse.ArgumentParser()
a.add_argument("--out", required=True)
a.add_argument("--size", type=int, default=160)
a.add_argument("--channels", type=int, default=4)
a.add_argument("--layout", choices=["nchw", "nhwc"], default="nchw")
a.add_argument("--lr", type=float, default=1.0)
a = a.parse_args()
torch.manual_seed(0)
torch.set_num_threads(2)
m = timm.create_model(
    "legacy_seresnext50_32x4d", in_chans=a.channels, num_classes=28, drop_rate=0.0
)
for b in m.modules():
    if isinstance(b, torch.nn.BatchNorm2d):
        (
            b.weight.data.uniform_(0.5, 1.5),
            b.bias.data.normal_(0, 0.1),
            b.running_mean.normal_(0, 0.1),
            b.running_var.uniform_(0.5, 1.5),
        )
# 16 samples: with fewer libtorch may choose another convolution.
x = torch.randn(16, a.channels, a.size, a.size)
y = (torch.rand(16, 28) < 0.1).float()
out = {"model." + k: v.clone() for k, v in m.state_dict().items()}
fmt = torch.channels_last if a.layout == "nhwc" else torch.contiguous_format
m = m.to(memory_format=fmt)
with torch.no_grad():
    logits = m.eval()(x.to(memory_format=fmt))
optimizer = torch.optim.SGD(m.parameters(), a.lr)
loss = torch.nn.functional.binary_cross_entropy_with_logits(m.train()(x.to(memory_format=fmt)), y)
loss.backward()
optimizer.step()
out |= {"input": x, "logits": logits}
save_file({k: v.contiguous() for k, v in out.items()}, a.out)
after = {
    k: v.contiguous() for k, v in m.state_dict().items() if not k.endswith("num_batches_tracked")
}
save_file({**after, "targets": y, "loss": loss.detach()}, a.out + ".after")
