"""What others make of exported weights: ONNX Runtime's logits and timm's, as safetensors. And a
state dict as torch.save writes it."""

import argparse

import numpy
import onnx
import onnxruntime
import timm
import torch
from safetensors.numpy import load_file, save_file

a = argparse.ArgumentParser()
a.add_argument(
    "--images",
    required=True,
    help="a safetensors file with `image`, pixel values, and `input`, normalised",
)
a.add_argument("--onnx", required=True)
a.add_argument("--timm", help="the exported state dict, where timm has the model")
a.add_argument("--pth", help="write that state dict with torch.save")
a.add_argument("--out", required=True)
a = a.parse_args()
torch.set_num_threads(2)
images = load_file(a.images)
onnx.checker.check_model(onnx.load(a.onnx), full_check=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(a.onnx, options, providers=["CPUExecutionProvider"])
(taken,), (given,) = session.get_inputs(), session.get_outputs()
assert (taken.name, taken.shape, taken.type) == ("image", ["n", 4, "h", "w"], "tensor(float)"), (
    taken
)
assert (given.name, given.shape) == ("logits", ["n", 28]), given
metadata = session.get_modelmeta().custom_metadata_map
assert metadata["channels"] == "4" and "Nucleoplasm" in metadata["class_names"], metadata
run = lambda x: session.run(["logits"], {"image": x})[0]
image = images["image"]
out = {
    "onnx": numpy.concatenate([run(image[:1]), run(image[1:])]),
    "cut": run(numpy.ascontiguousarray(image[:2, :, :97, :130])),
}
if a.timm:
    state = {k: torch.from_numpy(v) for k, v in load_file(a.timm).items()}
    model = timm.create_model("legacy_seresnext50_32x4d", in_chans=4, num_classes=28)
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        out["timm"] = model.eval()(torch.from_numpy(images["input"])).numpy()
    torch.save({"state_dict": model.state_dict(), "epoch": 7}, a.pth)
save_file(out, a.out)
