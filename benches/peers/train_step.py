"""Training steps (forward, BCE, backward, AdamW) of timm's SE-ResNeXt50 32x4d, 4 channels, 28
classes. Prints `ready`; each line on standard input asks for a step, which is answered by its
seconds."""

import argparse, sys, time

import timm
import torch

a = argparse.ArgumentParser()
a.add_argument("--size", type=int, default=128)
a.add_argument("--batch", type=int, default=16)
a.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
a.add_argument("--layout", choices=["nchw", "nhwc"], default="nhwc")
a.add_argument("--device", default="cpu")
a.add_argument("--compile", action="store_true")
a.add_argument("--threads", type=int, default=2)
a = a.parse_args()
torch.set_num_threads(a.threads)
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
fmt = torch.channels_last if a.layout == "nhwc" else torch.contiguous_format
m = (
    timm.create_model("legacy_seresnext50_32x4d", in_chans=4, num_classes=28)
    .to(a.device, memory_format=fmt)
    .train()
)
net = torch.compile(m) if a.compile else m
opt = torch.optim.AdamW(m.parameters(), 1e-4, fused=a.device == "cuda")
x = torch.randn(a.batch, 4, a.size, a.size, device=a.device).to(memory_format=fmt)
y = (torch.rand(a.batch, 28, device=a.device) < 0.1).float()
sync = torch.cuda.synchronize if a.device == "cuda" else (lambda: None)


def step():
    with torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == "bf16"):
        out = net(x)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(out.float(), y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    sync()


for _ in range(10 if a.device == "cuda" else 2):
    step()
print("ready", flush=True)
for _ in sys.stdin:
    t = time.perf_counter()
    step()
    print(time.perf_counter() - t, flush=True)
