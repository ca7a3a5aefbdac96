"""Five-crop prediction: crops of 2/3 of the side, max over crops; PyTorch eager or compiled, or
ONNX Runtime. Prints `ready`; each line on standard input asks for a pass over all images, which
is answered by its seconds."""

import argparse, sys, time

import timm
import torch

a = argparse.ArgumentParser()
a.add_argument("--size", type=int, default=256, help="crop side; the image is 1.5 times as large")
a.add_argument("--images", type=int, default=8)
a.add_argument("--dtype", choices=["f32", "bf16"], default="bf16")
a.add_argument("--device", default="cpu")
a.add_argument("--compile", action="store_true")
a.add_argument("--onnx", action="store_true")
a.add_argument("--threads", type=int, default=2)
a = a.parse_args()
torch.set_num_threads(a.threads)
torch.backends.cudnn.benchmark = True
m = timm.create_model("legacy_seresnext50_32x4d", in_chans=4, num_classes=28).eval()
s, c = a.size * 3 // 2, a.size
o = s - c
x = torch.randint(0, 255, (a.images, 4, s, s), dtype=torch.uint8)


def crops(x):
    h = o // 2
    return torch.cat(
        [x[..., y : y + c, z : z + c] for y, z in ((0, 0), (0, o), (o, 0), (o, o), (h, h))]
    )


if a.onnx:
    import onnxruntime as ort

    torch.onnx.export(
        m,
        (torch.randn(1, 4, c, c),),
        "/tmp/peer.onnx",
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
        dynamo=False,
    )
    so = ort.SessionOptions()
    so.intra_op_num_threads = a.threads
    so.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # others are measured in between
    sess = ort.InferenceSession("/tmp/peer.onnx", so, providers=["CPUExecutionProvider"])
    run = lambda: (
        torch.from_numpy(sess.run(None, {"x": (crops(x).float() / 255).numpy()})[0])
        .view(5, a.images, 28)
        .amax(0)
        .sigmoid()
    )
else:
    m = m.to(a.device, memory_format=torch.channels_last)
    net = torch.compile(m) if a.compile else m

    def run():
        with (
            torch.inference_mode(),
            torch.autocast(a.device, torch.bfloat16, enabled=a.dtype == "bf16"),
        ):
            z = (crops(x.to(a.device)).float() / 255).to(memory_format=torch.channels_last)
            return net(z).view(5, a.images, 28).amax(0).float().sigmoid().cpu()


for _ in range(3 if a.device == "cuda" else 1):
    run()
print("ready", flush=True)
for _ in sys.stdin:
    t = time.perf_counter()
    run()
    print(time.perf_counter() - t, flush=True)
