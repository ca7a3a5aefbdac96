use super::{
    query::{Relation, Sort},
    *,
};

fn labels(classes: &[usize]) -> Labels {
    Labels::from_classes(classes.iter().copied()).unwrap()
}

/// Six samples: a correct prediction, a missed class, a false one, both, a duplicate without
/// prediction, a test sample.
fn table() -> SampleTable {
    let row =
        |id: &str, folds: &[usize], truth: &[usize], predicted: &[usize], loss: f32| SampleRow {
            id: id.into(),
            place: 0,
            part: if id.starts_with("test") { Part::Test } else { Part::Train },
            folds: folds.to_vec(),
            truth: labels(truth),
            predicted: labels(predicted),
            has_prediction: !predicted.is_empty(),
            loss,
        };
    let rows = vec![
        row("Hit-1", &[0], &[0], &[0], 0.5),
        row("missed-2", &[1], &[0, 2], &[2], 3.0),
        row("false,3", &[0], &[2], &[0, 2], 2.0),
        row("both-4", &[0, 1], &[7], &[0], 9.0),
        row("dropped-5", &[], &[0], &[], f32::NAN),
        row("test-6", &[], &[], &[0, 23], f32::NAN),
    ];
    let mut probabilities = Array2::zeros((6, CLASSES));
    for (i, p) in [0.9, 0.2, 0.6, 0.7, 0.0, 0.8].into_iter().enumerate() {
        probabilities[[i, 0]] = p;
        probabilities[[i, 2]] = 0.65;
    }
    probabilities[[4, 2]] = 0.0;
    SampleTable { rows, probabilities }
}

fn select(query: Query) -> Vec<usize> {
    query.select(&table())
}

#[test]
fn truth_and_prediction_of_a_class_and_of_any() {
    let of = |class: Option<usize>, relation| select(Query { class, relation, ..Query::default() });
    let zero = Some(0);
    assert_eq!(of(None, Relation::Any), [0, 1, 2, 3, 4, 5]);
    assert_eq!(of(zero, Relation::Any), [0, 1, 2, 3, 4, 5]);
    assert_eq!(of(Some(7), Relation::Any), [3]);
    assert_eq!(of(zero, Relation::Labelled), [0, 1, 4]);
    assert_eq!(of(zero, Relation::Predicted), [0, 2, 3, 5]);
    assert_eq!(of(zero, Relation::Hit), [0]);
    // Samples without a prediction or without truth are neither missed nor false.
    assert_eq!(of(zero, Relation::Missed), [1]);
    assert_eq!(of(zero, Relation::False), [2, 3]);
    assert_eq!(of(zero, Relation::Wrong), [1, 2, 3]);
    assert_eq!(of(None, Relation::Missed), [1, 3]);
    assert_eq!(of(None, Relation::False), [2, 3]);
    assert_eq!(of(None, Relation::Hit), [0, 1, 2]);
    assert_eq!(of(Some(27), Relation::Wrong), [0; 0]);
}

#[test]
fn parts_folds_scores_and_words() {
    assert_eq!(select(Query { part: Some(Part::Test), ..Query::default() }), [5]);
    assert_eq!(select(Query { fold: Some(1), ..Query::default() }), [1, 3]);
    assert_eq!(
        select(Query { class: Some(0), min: Some(0.6), max: Some(0.8), ..Query::default() }),
        [2, 3, 5]
    );
    assert_eq!(
        select(Query { max: Some(0.65), ..Query::default() }),
        [1, 2],
        "the highest probability of any class"
    );
    let text = |text: &str| select(Query { text: text.into(), ..Query::default() });
    assert_eq!(text("hit"), [0]);
    assert_eq!(text("NUCLEOLI"), [1, 2], "class 2 by its name");
    assert_eq!(text(" nucleoli   2 "), [1]);
    assert_eq!(text("golgi"), [3]);
    assert_eq!(text("é"), [0; 0]);
}

#[test]
fn orders_put_what_is_not_known_last() {
    let of = |sort| select(Query { class: Some(0), sort, ..Query::default() });
    assert_eq!(of(Sort::Highest), [0, 5, 3, 2, 1, 4]);
    assert_eq!(of(Sort::Lowest), [1, 2, 3, 5, 0, 4]);
    assert_eq!(of(Sort::Worst), [3, 1, 2, 0, 4, 5]);
    assert_eq!(of(Sort::Id), [0, 3, 4, 2, 1, 5]);
}

#[test]
fn csv_comes_back() {
    let table = table();
    let bytes = table.csv(&[2, 4]).unwrap();
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().unwrap().clone();
    assert_eq!((header.len(), &header[6], &header[33]), (6 + CLASSES, NAMES[0], NAMES[27]));
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(
        rows[0].iter().take(9).collect::<Vec<_>>(),
        ["false,3", "train", "0", "2", "0 2", "2", "0.6", "0", "0.65"]
    );
    assert_eq!(
        rows[1].iter().take(7).collect::<Vec<_>>(),
        ["dropped-5", "train", "", "0", "", "", ""]
    );
}

#[test]
fn the_loss_is_the_sum_over_the_classes() {
    // -ln 0.8 - ln (1 - 0.25)
    assert!((loss(labels(&[1]), [0.25, 0.8]) - 0.510_825_6).abs() < 1e-6);
    assert!(loss(labels(&[0]), [0.0]).is_finite());
}
