use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::RngExt;

use super::*;

/// Label sets with frequencies from 40 % to a few in a thousand, in groups of 1 to `most` samples.
fn made(n: usize, most: usize, seed: u64) -> (Vec<Labels>, Vec<usize>) {
    let mut rng = rng::stream(Use::Synth, seed, 0, 0);
    let (mut labels, mut groups) = (Vec::new(), Vec::new());
    while labels.len() < n {
        let set = Labels::from_classes(
            (0..CLASSES).filter(|&c| rng.random::<f64>() < 0.4 / (1.0 + c as f64).powf(1.5)),
        )
        .unwrap();
        let group = labels.len() * 17;
        for _ in 0..rng.random_range(1..=most) {
            labels.push(set);
            groups.push(group);
        }
    }
    (labels, groups)
}

fn members(folds: &[usize], k: usize) -> Vec<Vec<usize>> {
    (0..k).map(|f| (0..folds.len()).filter(|&i| folds[i] == f).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn groups_stay_whole_and_the_seed_decides(
        n in 1usize..400, most in 1usize..6, k in 2usize..8, order in 1u8..=2, seed: u64,
    ) {
        let (labels, groups) = made(n, most, seed % 1000);
        let folds = split(&labels, &groups, k, order, seed);
        let mut fold_of = BTreeMap::new();
        for (group, fold) in groups.iter().zip(&folds) {
            prop_assert!(*fold < k);
            prop_assert_eq!(*fold_of.entry(group).or_insert(*fold), *fold);
        }
        prop_assert_eq!(&folds, &split(&labels, &groups, k, order, seed));
    }

    #[test]
    fn single_samples_are_spread_evenly(
        n in 200usize..600, k in 2usize..6, order in 1u8..=2, seed: u64,
    ) {
        let (labels, _) = made(n, 1, seed % 1000);
        let own: Vec<usize> = (0..labels.len()).collect();
        let folds = split(&labels, &own, k, order, seed);
        let quality = quality(&labels, &members(&folds, k), 1.0 / k as f64);
        prop_assert!(quality.max_abs_count_deviation <= 3.0, "{quality:?}");
        let sizes = || quality.sizes.iter();
        let (small, large) = (sizes().min().unwrap(), sizes().max().unwrap());
        prop_assert!(large - small <= 3, "{quality:?}");
    }
}

#[test]
fn hold_outs_have_their_share_and_differ() {
    let (labels, groups) = made(2000, 3, 4);
    let draws = shuffle(&labels, &groups, 3, 0.1, 1, 9);
    let sets: Vec<Vec<usize>> =
        (0..3).map(|d| (0..labels.len()).filter(|&i| draws[i].contains(&d)).collect()).collect();
    for set in &sets {
        assert!((190..=215).contains(&set.len()), "{}", set.len());
    }
    assert!(sets[0] != sets[1] && sets[1] != sets[2]);
    let held: std::collections::HashSet<_> = sets[0].iter().map(|&i| groups[i]).collect();
    assert!(
        (0..labels.len()).all(|i| held.contains(&groups[i]) == sets[0].contains(&i)),
        "a group is cut"
    );
}

#[test]
fn groups_join_over_all_columns() {
    let wells = vec![Some("w1"), None, Some("w2"), Some("w1"), None];
    let duplicates = vec![None, Some("d"), Some("d"), None, None];
    assert_eq!(groups_of(5, std::slice::from_ref(&wells)), [0, 1, 2, 0, 3]);
    assert_eq!(groups_of(5, &[wells, duplicates]), [0, 1, 1, 0, 2]);
}

#[test]
fn the_measure_is_that_of_the_definition() {
    let labels = ["0", "0", "0 1", "1"].map(|t| Labels::parse(t).unwrap());
    let q = quality(&labels, &[vec![0, 1], vec![2, 3]], 0.5);
    // class 0: 2 and 1 of a share of 1.5; class 1: 0 and 2 of a share of 1
    assert_eq!((q.max_abs_count_deviation, q.worst_class, q.sizes), (1.0, 1, vec![2, 2]));
    assert!((q.mean_rel_deviation - (0.5 / 1.5 * 2.0 + 2.0) / 56.0).abs() < 1e-12);
}

#[test]
fn the_table_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let row = |id: &str, folds: &[usize]| FoldRow { id: id.into(), group: 3, folds: folds.into() };
    let rows = vec![row("a", &[1]), row("b", &[]), row("c", &[0, 2])];
    let path = dir.path().join(table::NAME);
    table::write_table(&path, &rows).unwrap();
    assert_eq!(table::read_table(&path).unwrap(), rows);
    std::fs::write(&path, "id,group,fold\na,1,0\nb,x,0\n").unwrap();
    let error = table::read_table(&path).unwrap_err();
    assert!(error.to_string().contains("line 3") && error.exit_code() == 65, "{error}");
    let error = table::read_table(&dir.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("atlas split"), "{error}");
}
