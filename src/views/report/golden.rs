//! `tests/golden/report.json` for the tests: results of numpy and scikit-learn for synthetic
//! predictions, written by `report.py` beside it.

use serde::Deserialize;

use crate::data::labels::{CLASSES, Labels};

#[derive(Deserialize)]
pub struct Golden {
    pub probabilities: Vec<Vec<f32>>,
    truth: Vec<Vec<u8>>,
    pub groups: Vec<usize>,
    pub missed: Vec<u64>,
    pub instead: Vec<Vec<u64>>,
    pub together: Vec<Vec<u64>>,
    /// (observed, predicted) of each filled bin.
    pub calibration: Vec<[f64; 2]>,
    pub calibration_error: f64,
    /// (recall, precision) of class 20.
    pub curve_20: Vec<[f64; 2]>,
    /// Macro F1.
    pub interval: [f64; 2],
    /// F1 of class 20.
    pub interval_20: [f64; 2],
}

impl Golden {
    pub fn truth(&self) -> Vec<Labels> {
        sets(&self.truth, |&v| v == 1)
    }

    /// At 0.5.
    pub fn predicted(&self) -> Vec<Labels> {
        sets(&self.probabilities, |&p| p > 0.5)
    }
}

fn sets<T>(rows: &[Vec<T>], is_in: impl Fn(&T) -> bool) -> Vec<Labels> {
    rows.iter()
        .map(|row| {
            Labels::from_classes((0..CLASSES).filter(|&c| is_in(&row[c]))).expect("below CLASSES")
        })
        .collect()
}

pub fn read() -> Golden {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("committed"))
        .expect("as report.py wrote it")
}
