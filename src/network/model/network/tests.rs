use super::*;
use crate::{
    config::{Head, Stem},
    network::model::{DropKeys, Folded, Norms},
};

fn spec(arch: &str, head: Head) -> Spec {
    Spec { arch: arch.into(), stem: Stem::Standard, head, channels: 4, classes: 28, dropout: 0.5 }
}

fn image(n: i64, side: i64) -> Tensor {
    let len = n * 4 * side * side;
    Tensor::arange(len, (Kind::Double, Device::Cpu))
        .multiply_scalar(0.37)
        .sin()
        .to_kind(Kind::Float)
        .view([n, 4, side, side])
}

#[test]
fn parameter_counts_are_those_of_timm_and_of_the_original() {
    let count = |channels, classes, head| {
        let spec = Spec { channels, classes, ..spec("se_resnext50_32x4d", head) };
        spec.plan().unwrap().0.parameters.list.iter().map(Slot::len).sum::<i64>()
    };
    assert_eq!(count(3, 1000, Head::Linear), 27_559_896); // timm 1.0, legacy_seresnext50_32x4d
    assert_eq!(count(4, 28, Head::Seed), 29_748_300); // original.md 4
}

#[test]
fn an_unknown_architecture_is_a_usage_error_that_lists_the_known() {
    let error = Network::new(&spec("resnet18", Head::Linear), 0, false, Device::Cpu).err().unwrap();
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(text.contains("resnet18") && text.contains("se_resnext_tiny"), "{text}");
}

#[test]
fn gradients_stay_views_of_the_arena_and_accumulate() {
    for (nhwc, precision) in
        [(false, Precision::F32), (true, Precision::F32), (true, Precision::Bf16)]
    {
        let net = Network::new(&spec("se_resnext_tiny", Head::Seed), 1, nhwc, Device::Cpu).unwrap();
        let keys: Vec<u64> = (0..4).collect();
        let backward = || {
            let mode = Mode::Train(DropKeys { seed: 0, epoch: 0, keys: &keys }, Norms::Local);
            net.forward(&image(4, 64), mode, precision).square().mean(Kind::Float).backward();
        };
        net.zero_gradients();
        backward();
        let (arena, parameters) = (net.flat_gradients(), net.flat_parameters());
        for (leaf, slot) in net.parameters.iter().zip(&net.parameter_slots) {
            let at = |flat: &Tensor| flat.data_ptr() as usize + 4 * slot.offset as usize;
            assert_eq!(leaf.grad().data_ptr() as usize, at(&arena), "gradient of {}", slot.name);
            assert_eq!(leaf.data_ptr() as usize, at(&parameters), "{}", slot.name);
            assert_eq!(leaf.stride(), leaf.grad().stride(), "{}", slot.name);
        }
        let once = arena.copy();
        assert!(once.abs().max().double_value(&[]) > 0.0);
        backward();
        let ratio = (arena.norm() / once.norm()).double_value(&[]);
        assert!(
            (ratio - 2.0).abs() < 1e-3,
            "two passes give {ratio} times one (nhwc {nhwc}, {precision:?})"
        );
    }
}

#[test]
fn layouts_and_precisions_agree_and_channels_last_survives() {
    let net =
        |nhwc| Network::new(&spec("se_resnext_tiny", Head::Linear), 3, nhwc, Device::Cpu).unwrap();
    let (planes, last) = (net(false), net(true));
    for ((name, a), (_, b)) in planes.named_tensors().iter().zip(last.named_tensors()) {
        assert!(a.equal(&b), "{name} depends on the layout");
        assert!(a.dim() < 4 || a.size()[1] == 1 || b.stride()[1] == 1, "{name}");
    }
    let x = image(3, 64);
    let exact = planes.forward(&x, Mode::Eval, Precision::F32);
    assert_eq!(exact.size(), [3, 28]);
    let largest = |y: Tensor| (y - &exact).abs().max().double_value(&[]);
    let scale = exact.abs().max().double_value(&[]);
    assert!(largest(last.forward(&x, Mode::Eval, Precision::F32)) < 1e-5 * scale.max(1.0));
    for net in [&planes, &last] {
        let coarse = net.forward(&x, Mode::Eval, Precision::Bf16);
        assert_eq!(coarse.kind(), Kind::Float);
        let off = largest(coarse);
        assert!(off > 0.0 && off < 0.05 * scale, "bf16 is off by {off} of {scale}");
    }
}

#[test]
fn training_moves_the_running_statistics_and_evaluation_does_not() {
    let net = Network::new(&spec("se_resnext_tiny", Head::Seed), 3, false, Device::Cpu).unwrap();
    let x = image(4, 64);
    let before = net.flat_buffers().copy();
    let first = net.forward(&x, Mode::Eval, Precision::F32);
    assert!(before.equal(&net.flat_buffers()));
    let keys = [9, 8, 7, 6];
    let train = |epoch| {
        let mode = Mode::Train(DropKeys { seed: 1, epoch, keys: &keys }, Norms::Local);
        net.forward(&x, mode, Precision::F32)
    };
    let logits = train(0);
    assert!(logits.requires_grad());
    assert!(logits.equal(&train(0)) && !logits.equal(&train(1)), "dropout follows the epoch");
    // Closed form of one update: 0.9 of the old plus 0.1 of the batch's mean.
    let conv = &net.parameters[0];
    let out = x.conv2d(conv, None::<Tensor>, [2, 2], [3, 3], [1, 1], 1);
    let mean =
        net.named_tensors().into_iter().find(|(n, _)| n == "layer0.bn1.running_mean").unwrap().1;
    let expected = out.mean_dim([0, 2, 3].as_slice(), false, None::<Kind>) * (1.0 - 0.9f64.powi(3));
    assert!((mean - expected).abs().max().double_value(&[]) < 1e-5);
    assert!(!first.equal(&net.forward(&x, Mode::Eval, Precision::F32)));
}

#[test]
fn folded_batch_norms_change_nothing_but_rounding() {
    for (nhwc, head) in [(false, Head::Linear), (true, Head::Seed)] {
        // Statistics and scales unlike those of a fresh network, variances far from 1.
        let uneven = |kind| {
            let net = Network::of_kind(&spec("se_resnext_tiny", head), 5, nhwc, Device::Cpu, kind)
                .unwrap();
            tch::no_grad(|| {
                let vectors = net.named_tensors().into_iter().filter(|(_, t)| t.dim() == 1);
                for (name, mut tensor) in vectors {
                    let lift = if name.ends_with("running_var") { 0.5 } else { 0.1 };
                    let values = Tensor::arange(tensor.numel() as i64, (Kind::Double, Device::Cpu));
                    tensor.copy_(&(values.multiply_scalar(0.7).sin() * 0.4 + lift));
                }
            });
            net
        };
        let (exact, net, x) = (uneven(Kind::Double), uneven(Kind::Float), image(3, 64));
        let want = exact.forward(&x.to_kind(Kind::Double), Mode::Eval, Precision::F32);
        let scale = want.abs().max().double_value(&[]);
        let off = |got: Tensor| (got - &want).abs().max().double_value(&[]) / scale;
        let folded = off(Folded::new(&exact, Precision::F32).forward(&x.to_kind(Kind::Double)));
        assert!(scale > 1e-3 && folded < 1e-6, "{folded} of {scale}");
        // In f32 the kernels are packed for the first input, and again for one of another size.
        let plain = Folded::new(&net, Precision::F32);
        let other = image(2, 96);
        let wide = exact.forward(&other.to_kind(Kind::Double), Mode::Eval, Precision::F32);
        let far = (plain.forward(&other) - &wide).abs().max().double_value(&[])
            / wide.abs().max().double_value(&[]);
        let near = off(plain.forward(&x));
        assert!(near < 1e-4 && far < 1e-4, "packed kernels are off by {near} and {far}");
        let coarse = off(Folded::new(&net, Precision::Bf16).forward(&x));
        assert!(coarse > 1e-6 && coarse < 0.05, "bf16 is off by {coarse} of {scale}");
    }
}
