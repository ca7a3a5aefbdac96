//! Precision and recall of a class at every threshold.

/// (recall, precision) at each distinct score of `ranked` (score, is positive; highest score
/// first). It begins at recall 0, where precision is defined as 1, as in
/// `sklearn.precision_recall_curve`. Empty where there is no positive.
pub fn precision_recall(ranked: &[(f64, bool)]) -> Vec<(f64, f64)> {
    let positives = ranked.iter().filter(|r| r.1).count();
    if positives == 0 {
        return Vec::new();
    }
    let (mut hits, mut entered, mut curve) = (0, 0, vec![(0.0, 1.0)]);
    for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
        hits += tied.iter().filter(|r| r.1).count();
        entered += tied.len();
        curve.push((hits as f64 / positives as f64, hits as f64 / entered as f64));
    }
    // After the last positive recall stays 1.
    let whole = curve.iter().position(|p| p.0 >= 1.0).map_or(curve.len(), |at| at + 1);
    curve.truncate(whole);
    curve
}

/// About `most` of the points at most, with the first and the last.
pub fn thinned(curve: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let step = curve.len().div_ceil(most.max(1)).max(1);
    let mut points: Vec<_> = curve.iter().copied().step_by(step).collect();
    if let Some(last) = curve.last()
        && points.last() != Some(last)
    {
        points.push(*last);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scoring::metrics, views::report::golden};

    #[test]
    fn equals_scikit_learn() {
        let g = golden::read();
        let p = ndarray::Array2::from_shape_vec(
            (g.probabilities.len(), crate::data::labels::CLASSES),
            g.probabilities.concat(),
        )
        .unwrap();
        let got = precision_recall(&metrics::ranked(p.view(), &g.truth(), 20));
        assert_eq!(got.len(), g.curve_20.len());
        for (got, want) in got.iter().zip(&g.curve_20) {
            assert!(
                (got.0 - want[0]).abs() < 1e-12 && (got.1 - want[1]).abs() < 1e-12,
                "{got:?} {want:?}"
            );
        }
        assert!(precision_recall(&[(0.4, false)]).is_empty());
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let curve: Vec<_> = (0..1000).map(|i| (f64::from(i), 0.0)).collect();
        let thin = thinned(&curve, 100);
        assert!(thin.len() <= 101 && thin[0].0 == 0.0 && thin.last().unwrap().0 == 999.0);
        assert_eq!(thinned(&curve[..5], 100).len(), 5);
    }
}
