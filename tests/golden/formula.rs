//! Weights and inputs from a closed formula, the same to the bit as in network.py.

use tch::{Kind, Tensor};

/// Uniform in [-1, 1) with 24 bits, from a mixed 64-bit integer.
pub fn noise(key: u64, shape: &[i64]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product::<i64>() as u64)
        .map(|i| {
            let h = (i + key * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let h = (h ^ (h >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            (((h ^ (h >> 32)) >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
        })
        .collect();
    Tensor::from_slice(&values).view(shape)
}

/// The input of all golden values, `[n, channels, side, side]`.
pub fn input(channels: i64, n: i64, side: i64) -> Tensor {
    noise(999, &[n, channels, side, side])
}

/// Fills each tensor by its place among the sorted names.
pub fn fill(mut tensors: Vec<(String, Tensor)>) {
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (key, (name, tensor)) in tensors.iter_mut().enumerate() {
        let shape = tensor.size();
        let noise = noise(key as u64, &shape);
        tensor.copy_(&if shape.len() > 1 {
            noise * f64::from((3.0 / shape[1..].iter().product::<i64>() as f64).sqrt() as f32)
        } else if name.ends_with("running_var") || name.ends_with("weight") {
            noise * 0.25 + 1.0
        } else {
            noise * 0.125
        });
    }
}

pub fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("network.json")).unwrap()
}

pub fn matrix(rows: &serde_json::Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone()).unwrap();
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]).to_kind(Kind::Float)
}
