use super::*;

const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/event_file.bin");

fn value(tag: &str, content: Content) -> Value {
    Value { tag: tag.into(), content: Some(content) }
}

fn event(wall_time: f64, step: i64, values: Vec<Value>) -> Event {
    Event { wall_time, step, what: Some(What::Summary(Summary { values })) }
}

/// What tests/golden/event_file.py writes with TensorBoard's own code.
fn golden() -> Vec<Event> {
    let histogram = Histogram {
        min: -1.0,
        max: 3.0,
        num: 4.0,
        sum: 2.5,
        sum_squares: 10.25,
        limits: vec![1.0, 3.0],
        counts: vec![3.0, 1.0],
    };
    let image = Image { height: 2, width: 3, colorspace: 3, png: b"not a png".to_vec() };
    vec![
        Event { wall_time: 1.5, step: 0, what: Some(What::FileVersion("brain.Event:2".into())) },
        Event { wall_time: 2.5, step: 0, what: Some(What::SessionLog(SessionLog { status: 1 })) },
        event(1e9, 7, vec![scalar("a/b", 0.25), value("c", Content::Image(image))]),
        event(3.0, 300, vec![value("h", Content::Histogram(histogram))]),
    ]
}

#[test]
fn records_are_those_of_tensorboards_own_writer() {
    let bytes: Vec<u8> = golden().iter().flat_map(record).collect();
    assert_eq!(bytes, GOLDEN);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    fs::write(&path, GOLDEN).unwrap();
    assert_eq!(read(&path).unwrap(), (golden(), true));
    // Cut at any byte, or with any byte changed, it is read up to there.
    for end in 0..GOLDEN.len() {
        fs::write(&path, &GOLDEN[..end]).unwrap();
        let (events, whole) = read(&path).unwrap();
        assert!(events == golden()[..events.len()] && events.len() < 4);
        let edge: usize = events.iter().map(|e| record(e).len()).sum();
        assert_eq!(whole, edge == end);
        let mut bytes = GOLDEN.to_vec();
        bytes[end] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (events, whole) = read(&path).unwrap();
        assert!(!whole && events == golden()[..events.len()]);
    }
}

fn steps(folder: &Path) -> Vec<i64> {
    let files = files(folder).unwrap();
    assert_eq!(files.len(), 1);
    let (events, whole) = read(&files[0]).unwrap();
    assert!(whole && events[0].what == Some(What::FileVersion("brain.Event:2".into())));
    events.iter().filter(|e| matches!(e.what, Some(What::Summary(_)))).map(|e| e.step).collect()
}

#[test]
fn a_continued_log_has_each_step_once() {
    let dir = tempfile::tempdir().unwrap();
    let go_on = |until: i64| EventLog::open(dir.path(), |e| e.step <= until).unwrap();
    let (log, kept) = go_on(0);
    (1..=4).for_each(|step| log.write(step, vec![scalar("loss", 1.0)]).unwrap());
    log.write(5, vec![]).unwrap();
    assert_eq!((kept, steps(dir.path())), (0, vec![1, 2, 3, 4]));
    let first = files(dir.path()).unwrap();
    let content = fs::read(&first[0]).unwrap();

    // Nothing to forget: the same file goes on.
    assert_eq!(go_on(4).1, 4);
    assert_eq!(files(dir.path()).unwrap(), first);

    // Some to forget, and a record cut short: a new file, later by name, even in the same second.
    OpenOptions::new().append(true).open(&first[0]).unwrap().write_all(&GOLDEN[..20]).unwrap();
    let (log, kept) = go_on(2);
    log.write(3, vec![scalar("loss", 2.0)]).unwrap();
    assert_eq!((kept, steps(dir.path())), (2, vec![1, 2, 3]));
    assert!(files(dir.path()).unwrap() > first);

    // Killed between the new file and the removal of the old one: what stayed is in both, and
    // counts once.
    fs::write(&first[0], content).unwrap();
    go_on(2);
    assert_eq!(steps(dir.path()), [1, 2]);
}

#[test]
fn a_histogram_counts_every_value_once() {
    let of = |values: &[f32]| match histogram("h", values).unwrap().content {
        Some(Content::Histogram(h)) => h,
        other => panic!("{other:?}"),
    };
    let h = of(&[0.0, 0.5, 1.0, f32::NAN, 60.0, 59.5, f32::INFINITY]);
    assert_eq!((h.min, h.max, h.num, h.sum), (0.0, 60.0, 5.0, 121.0));
    assert_eq!(h.sum_squares, 0.25 + 1.0 + 3600.0 + 59.5 * 59.5);
    assert_eq!((h.counts.len(), h.limits[0], h.limits[59]), (60, 1.0, 60.0));
    assert_eq!(
        (h.counts[0], h.counts[1], h.counts[59], h.counts.iter().sum::<f64>()),
        (2.0, 1.0, 2.0, 5.0)
    );
    assert_eq!(of(&[2.0; 3]).counts, [3.0]);
    assert!(histogram("h", &[f32::NAN]).is_none());
}
