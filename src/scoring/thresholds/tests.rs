use ndarray::Array2;
use proptest::prelude::*;

use super::*;

/// Scores with many ties, weakly correlated with the truth.
fn synthetic(n: usize, seed: u64, digits: f64) -> (Array2<f32>, Vec<Labels>) {
    use rand::RngExt;
    let mut rng = crate::base::rng::stream(crate::base::rng::Use::Synth, seed, 0, 0);
    let truth: Vec<Labels> = (0..n)
        .map(|_| {
            Labels::from_classes((0..CLASSES).filter(|&c| rng.random::<f64>() < c as f64 / 60.0))
                .unwrap()
        })
        .collect();
    let p = Array2::from_shape_fn((n, CLASSES), |(i, c)| {
        let p = 0.35 * f64::from(u8::from(truth[i].contains(c))) + 0.65 * rng.random::<f64>();
        ((p * digits).round() / digits) as f32
    });
    (p, truth)
}

/// The best F1 of a class over all thresholds from 0 to 1, by trying every score and 0.
fn brute(p: &Array2<f32>, truth: &[Labels], class: usize) -> f64 {
    let tries = p.column(class).iter().copied().chain([0.0]).collect::<Vec<_>>();
    tries
        .into_iter()
        .map(|t| metrics::counts(p.view(), truth, &[t; CLASSES])[class].f1())
        .fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn optimum_and_constant_equal_brute_force(
        seed: u64,
        n in 1usize..40,
        digits in prop::sample::select(vec![5.0, 20.0, 1e6]),
    ) {
        let (p, truth) = synthetic(n, seed, digits);
        let counts = metrics::counts(p.view(), &truth, &fit(Method::Optimum, p.view(), &truth));
        for (class, count) in counts.iter().enumerate() {
            let (f1, best) = (count.f1(), brute(&p, &truth, class));
            prop_assert!((f1 - best).abs() < 1e-9, "class {class}: {f1} and {best}");
        }
        let tries = p.iter().copied().chain([0.0]);
        let score = |t| metrics::macro_f1(&metrics::counts(p.view(), &truth, &[t; CLASSES]));
        let best = tries.map(score).fold(0.0, f64::max);
        prop_assert!((in_sample(Method::Constant, p.view(), &truth) - best).abs() < 1e-9);
    }

    #[test]
    fn proportion_predicts_as_many_positives_as_there_are(seed: u64, n in 1usize..60) {
        let (p, truth) = synthetic(n, seed, 1e6);
        for count in metrics::counts(p.view(), &truth, &fit(Method::Proportion, p.view(), &truth)) {
            prop_assert_eq!(count.predicted(), count.positives());
        }
    }
}

#[test]
fn thresholds_are_in_the_middle_of_the_gap() {
    let mut p = Array2::<f64>::zeros((4, CLASSES));
    p.column_mut(2).assign(&ndarray::arr1(&[0.9, 0.7, 0.3, 0.1]));
    let set = Labels::from_classes([2]).unwrap();
    let none = Labels::default();
    let truth = [set, set, none, none];
    for method in [Method::Optimum, Method::Proportion, Method::Constant] {
        assert_eq!(fit(method, p.view(), &truth)[2], 0.5, "{method:?}");
    }
    assert_eq!(fit(Method::Proportion, p.view(), &[set, none, none, none])[2], 0.8);
}

#[test]
fn adjacent_floating_point_scores_are_separated() {
    let (low, high) = (0.3f32, 0.3f32.next_up());
    for (a, b) in [(low, high), (high, high.next_up())] {
        let mut p = Array2::<f32>::zeros((2, CLASSES));
        p.column_mut(0).assign(&ndarray::arr1(&[a, b]));
        let truth = [Labels::default(), Labels::from_classes([0]).unwrap()];
        let count = metrics::counts(p.view(), &truth, &fit(Method::Optimum, p.view(), &truth))[0];
        assert_eq!((count.tp, count.fp, count.fn_), (1, 0, 0));
    }
}

#[test]
fn shrunken_is_between_optimum_and_constant_and_nearer_to_the_constant_for_rare_classes() {
    let (p, truth) = synthetic(300, 3, 1e6);
    let [optimum, constant, shrunken] =
        [Method::Optimum, Method::Constant, Method::Shrunken].map(|m| fit(m, p.view(), &truth));
    let positives = metrics::counts(p.view(), &truth, &optimum).map(|c| c.positives() as f64);
    for class in 1..CLASSES {
        let share = f64::from(shrunken[class] - constant[class])
            / f64::from(optimum[class] - constant[class]);
        let expected = positives[class] / (positives[class] + SHRINKAGE);
        assert!((share - expected).abs() < 1e-4, "class {class}: {share}");
    }
    assert_eq!((optimum[0], shrunken[0]), (constant[0], constant[0]), "class 0 has no positive");
}

#[test]
fn cross_fitting_uses_thresholds_that_were_not_fitted_on_the_sample() {
    let (p, truth) = synthetic(200, 5, 1e6);
    let own: Vec<usize> = (0..truth.len()).collect();
    let crossed = cross_fitted(Method::Optimum, p.view(), &truth, &own, 4, 1);
    let fold_of = folds::split(&truth, &own, 4, 1, 1);
    for i in 0..truth.len() {
        let rest: Vec<usize> = own.iter().copied().filter(|&j| fold_of[j] != fold_of[i]).collect();
        let seen: Vec<Labels> = rest.iter().map(|&j| truth[j]).collect();
        if i % 25 == 0 {
            let thresholds = fit(Method::Optimum, p.select(Axis(0), &rest).view(), &seen);
            assert_eq!(crossed.predicted[i], metrics::above(p.row(i).iter().copied(), &thresholds));
        }
    }
    let score = metrics::macro_f1(&metrics::counts_of(crossed.predicted.iter().copied(), &truth));
    assert_eq!(crossed.macro_f1, score);
    assert!(crossed.macro_f1 < in_sample(Method::Optimum, p.view(), &truth));
}
