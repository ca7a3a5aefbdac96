use serde_json::Value;
use tch::{Device, Kind};

use super::*;
use crate::{
    config::Head,
    network::model::{DropKeys, Mode, Norms, Precision, Spec},
};

fn network(seed: u64) -> Network {
    let (arch, head) = ("se_resnext_tiny".into(), Head::Linear);
    let model = config::Model { arch, head, dropout: 0.0, ..Default::default() };
    Network::new(&Spec::of(&model), seed, false, Device::Cpu).unwrap()
}

fn floats(v: &Value) -> Tensor {
    let values: Vec<f64> = v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    Tensor::from_slice(&values).to_kind(Kind::Float)
}

/// The first eight values of a kernel (with weight decay) or of a bias (without).
fn head_of(tensors: Vec<(String, Tensor)>, name: &str) -> Tensor {
    tensors.into_iter().find(|(n, _)| n == name).unwrap().1.view([-1]).narrow(0, 0, 8)
}

#[test]
fn five_steps_are_those_of_torch() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../tests/golden/optim.json")).unwrap();
    for (name, kind) in [("adamw", config::Optimizer::Adamw), ("sgd", config::Optimizer::Sgd)] {
        let (kernel, bias) = ("layer0.conv1.weight", "last_linear.bias");
        for decay_all in [false, true] {
            let net = network(0);
            let config = config::Train {
                optimizer: kind,
                weight_decay: golden["decay"].as_f64().unwrap(),
                decay_all,
                clip: 0.0,
                beta2: 0.99,
                ..Default::default()
            };
            let mut optimizer = Optimizer::new(&config, &net);
            for n in [kernel, bias] {
                head_of(net.named_tensors(), n).copy_(&floats(&golden["start"]));
            }
            let rates = golden["rates"].as_array().unwrap().iter();
            for (rates, gradient) in rates.zip(golden["gradients"].as_array().unwrap()) {
                net.zero_gradients();
                for n in [kernel, bias] {
                    head_of(net.named_gradients(), n).copy_(&floats(gradient));
                }
                let rates =
                    Rates { lr: rates[0].as_f64().unwrap(), momentum: rates[1].as_f64().unwrap() };
                assert!(!optimizer.step(&net, rates).skipped);
            }
            let of_bias = if decay_all { "decayed" } else { "plain" };
            for (n, want) in [(kernel, "decayed"), (bias, of_bias)] {
                let off = head_of(net.named_tensors(), n) - floats(&golden[name][want]);
                let off = off.abs().max().double_value(&[]);
                assert!(off < 1e-6, "{name}: {n} is off by {off}");
            }
        }
    }
}

#[test]
fn clipping_scales_to_the_limit_and_only_down() {
    let mut gradients = Tensor::from_slice(&[3f32, 4.0]);
    assert_eq!(clip(&mut gradients, 0.0), 5.0);
    assert_eq!(clip(&mut gradients, 10.0), 5.0);
    assert_eq!(Vec::<f32>::try_from(&gradients).unwrap(), [3.0, 4.0]);
    clip(&mut gradients, 1.0);
    assert!((gradients.norm().double_value(&[]) - 1.0).abs() < 1e-6);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let net = network(0);
    let mut optimizer = Optimizer::new(&config::Train::default(), &net);
    let before = net.flat_parameters().copy();
    for bad in [f64::NAN, f64::INFINITY] {
        let _ = net.flat_gradients().fill_(1.0);
        let _ = net.flat_gradients().narrow(0, 7, 1).fill_(bad);
        let step = optimizer.step(&net, Rates { lr: 0.1, momentum: 0.9 });
        assert!(step.skipped && !step.norm.is_finite());
    }
    assert!(before.equal(&net.flat_parameters()));
    assert_eq!(optimizer.steps(), 0);
    assert!(optimizer.state().iter().all(|(_, t)| t.abs().max().double_value(&[]) == 0.0));
}

/// Trains a few steps on a fixed batch.
fn train(net: &Network, optimizer: &mut Optimizer, ema: &mut Ema, steps: std::ops::Range<u64>) {
    let x = Tensor::arange(4 * 4 * 32 * 32, (Kind::Float, Device::Cpu))
        .multiply_scalar(0.1)
        .sin()
        .view([4, 4, 32, 32]);
    for step in steps {
        net.zero_gradients();
        let mode =
            Mode::Train(DropKeys { seed: 0, epoch: step, keys: &[0, 1, 2, 3] }, Norms::Local);
        net.forward(&x, mode, Precision::F32).square().mean(Kind::Float).backward();
        assert!(!optimizer.step(net, Rates { lr: 1e-2, momentum: 0.9 }).skipped);
        ema.update(net);
    }
}

fn named(state: impl IntoIterator<Item = (&'static str, Tensor)>) -> BTreeMap<String, Tensor> {
    state.into_iter().map(|(n, t)| (n.to_string(), t.copy())).collect()
}

#[test]
fn a_run_resumes_bit_exactly_from_its_state() {
    for kind in [config::Optimizer::Adamw, config::Optimizer::Sgd] {
        let config = config::Train { optimizer: kind, ..Default::default() };
        let net = network(0);
        let (mut optimizer, mut ema) = (Optimizer::new(&config, &net), Ema::new(&net, 0.9));
        train(&net, &mut optimizer, &mut ema, 0..3);
        // Into a network with other initial weights.
        let other = network(1);
        let (mut optimizer2, mut ema2) = (Optimizer::new(&config, &other), Ema::new(&other, 0.9));
        tch::no_grad(|| {
            other.flat_parameters().copy_(&net.flat_parameters());
            other.flat_buffers().copy_(&net.flat_buffers());
        });
        optimizer2.set_state(&named(optimizer.state()), optimizer.steps()).unwrap();
        ema2.set_state(&named(ema.state()), ema.updates()).unwrap();
        train(&net, &mut optimizer, &mut ema, 3..6);
        train(&other, &mut optimizer2, &mut ema2, 3..6);
        assert!(net.flat_parameters().equal(&other.flat_parameters()), "{kind:?}");
        let mut averages = ema.state().into_iter().zip(ema2.state());
        assert!(averages.all(|((_, a), (_, b))| a.equal(&b)), "{kind:?}");
        assert_eq!(optimizer.steps(), 6);
    }
}

#[test]
fn state_of_another_optimiser_is_refused() {
    let net = network(0);
    let sgd = config::Train { optimizer: config::Optimizer::Sgd, ..Default::default() };
    let sgd = Optimizer::new(&sgd, &net);
    let mut adamw = Optimizer::new(&config::Train::default(), &net);
    let error = adamw.set_state(&named(sgd.state()), 1).unwrap_err().to_string();
    assert!(error.contains("second_moment"), "{error}");
}

#[test]
fn the_average_warms_up_and_swaps_back() {
    let net = network(0);
    let mut ema = Ema::new(&net, 0.5);
    let slot = || net.flat_parameters().narrow(0, 0, 1);
    let mut expected = slot().double_value(&[0]);
    for t in 0..12 {
        let value = f64::from(t);
        let _ = tch::no_grad(|| slot().fill_(value));
        let decay = 0.5f64.min((1.0 + value) / (10.0 + value));
        expected = decay * expected + (1.0 - decay) * value;
        ema.update(&net);
    }
    ema.swap(&net);
    assert!((slot().double_value(&[0]) - expected).abs() < 1e-5);
    ema.swap(&net);
    assert_eq!(slot().double_value(&[0]), 11.0);
}
