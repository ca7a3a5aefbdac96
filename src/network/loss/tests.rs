use serde::Deserialize;

use super::*;

/// Made by tests/golden/losses.py.
#[derive(Deserialize)]
struct Golden {
    logits: Vec<Vec<f64>>,
    targets: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    losses: Losses,
    value: f64,
    gradient: Vec<Vec<f64>>,
    per_sample: Vec<f64>,
}

fn matrix(rows: &[Vec<f64>]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]).to_kind(Kind::Float)
}

fn largest(t: Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

#[test]
fn values_and_gradients_are_those_of_the_definitions() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../tests/golden/losses.json")).unwrap();
    let targets = matrix(&golden.targets);
    assert_eq!(golden.cases.len(), 12);
    for case in &golden.cases {
        let logits = matrix(&golden.logits).set_requires_grad(true);
        let value = total(&logits, &targets, &case.losses);
        value.backward();
        let off = (value.double_value(&[]) - case.value).abs();
        assert!(off < 1e-5 * case.value.abs().max(1.0), "value off by {off}: {:?}", case.losses);
        let off = largest(logits.grad() - matrix(&case.gradient));
        assert!(off < 1e-5, "gradient off by {off}: {:?}", case.losses);
        if !case.per_sample.is_empty() {
            let rows = per_sample(&logits, &targets, &case.losses);
            assert_eq!(rows.len(), 1);
            let expected = Tensor::from_slice(&case.per_sample).to_kind(Kind::Float);
            assert_eq!(rows[0].1.size(), expected.size());
            let off = largest((&rows[0].1 - &expected) / expected.abs().clamp_min(1.0));
            assert!(off < 1e-5, "per sample off by {off}: {:?}", case.losses);
        }
    }
}

#[test]
fn saturated_logits_give_finite_gradients() {
    let logits =
        Tensor::from_slice(&[1e4f32, -1e4, 1e4, -1e4]).view([2, 2]).set_requires_grad(true);
    let targets = Tensor::from_slice(&[1f32, 1.0, 0.0, 0.0]).view([2, 2]);
    let losses = Losses {
        bce: 1.0,
        focal: 1.0,
        lovasz: 1.0,
        soft_f1: 1.0,
        focal_gamma: 0.5,
        ..Default::default()
    };
    let value = total(&logits, &targets, &losses);
    value.backward();
    assert!(value.double_value(&[]).is_finite() && largest(logits.grad()).is_finite());
}

#[test]
fn the_sum_is_the_weighted_sum_of_its_parts() {
    let logits = Tensor::arange(56, (Kind::Float, tch::Device::Cpu)).sin().view([2, 28]);
    let targets = logits.gt(0.8).to_kind(Kind::Float);
    let losses = Losses { bce: 0.5, focal: 2.0, lovasz: 0.0, soft_f1: 3.0, ..Default::default() };
    let parts = parts(&logits, &targets, &losses);
    assert_eq!(
        parts.iter().map(|p| (p.0, p.1)).collect::<Vec<_>>(),
        [("bce", 0.5), ("focal", 2.0), ("soft_f1", 3.0)]
    );
    let sum: f64 = parts.iter().map(|(_, weight, value)| weight * value.double_value(&[])).sum();
    assert!((sum - total(&logits, &targets, &losses).double_value(&[])).abs() < 1e-5);
}
