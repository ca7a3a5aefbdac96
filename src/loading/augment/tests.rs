use super::*;
use crate::base::rng::{Use, stream};

/// Only the crop; each test switches on what it checks.
fn plain() -> Augment {
    Augment {
        resize: 24,
        crop: 16,
        rot90: 0.0,
        flip: 0.0,
        brightness_contrast: 0.0,
        elastic: 0.0,
        ..Augment::default()
    }
}

fn numbered(side: usize) -> Vec<u8> {
    (0..side * side).flat_map(|i| [(i / side) as u8, (i % side) as u8, 100, 200]).collect()
}

fn drawn(augment: &Augment, key: u64) -> Vec<[u8; 4]> {
    let (mut rng, mut scratch) = (stream(Use::Augment, 5, 1, key), Scratch::default());
    let mut out = vec![0; 16 * 16 * 4];
    random(augment, &mut rng, &numbered(24), 24, &mut scratch, &mut out).unwrap();
    out.as_chunks().0.to_vec()
}

#[test]
fn crops_reach_every_place_and_nothing_else_changes() {
    let mut seen = std::collections::HashMap::new();
    for key in 0..2000 {
        let out = drawn(&plain(), key);
        let [top, left, ..] = out[0];
        assert!(
            (0..256).all(|i| out[i] == [top + (i / 16) as u8, left + (i % 16) as u8, 100, 200])
        );
        *seen.entry((top, left)).or_insert(0) += 1;
    }
    // 81 places, 24.7 draws each.
    assert_eq!(seen.len(), 81);
    assert!(seen.values().all(|n| (5..60).contains(n)), "{seen:?}");
}

#[test]
fn turns_and_flips_come_with_their_probabilities() {
    // Which corner of the crop lies first, and whether rows and columns are exchanged, tells the
    // eight symmetries apart.
    let counts = |augment: &Augment| {
        let mut counts = std::collections::BTreeMap::new();
        for key in 0..1200 {
            let out = drawn(augment, key);
            let step = |to: usize| [0, 1].map(|i| out[to][i] as i32 - out[0][i] as i32);
            *counts.entry((step(16), step(1))).or_insert(0) += 1;
        }
        counts.into_values().collect::<Vec<i32>>()
    };
    let near = |counts: Vec<i32>, mut want: Vec<i32>| {
        let mut counts = counts;
        counts.sort_unstable();
        want.sort_unstable();
        assert_eq!(counts.len(), want.len(), "{counts:?}");
        assert!(
            counts.iter().zip(&want).all(|(c, w)| (c - w).abs() < 75),
            "{counts:?}, expected {want:?}"
        );
    };
    near(counts(&plain()), vec![1200]);
    near(counts(&Augment { rot90: 1.0, ..plain() }), vec![300; 4]);
    near(counts(&Augment { flip: 0.75, ..plain() }), vec![300; 4]);
    near(counts(&Augment { flip: 1.0, ..plain() }), vec![400; 3]);
    near(
        counts(&Augment { rot90: 1.0, flip: 1.0, ..plain() }),
        vec![100, 100, 100, 100, 200, 200, 200, 200],
    );
}

#[test]
fn tones_stay_within_their_limits() {
    let augment = Augment { brightness: 0.2, contrast: 0.3, ..plain() };
    let mut rng = stream(Use::Augment, 0, 0, 0);
    let (mut alphas, mut betas) = (vec![], vec![]);
    for _ in 0..500 {
        let Tones::Each(tones) = random_tones(&augment, &mut rng) else {
            panic!("one tone per channel expected")
        };
        alphas.extend(tones.map(|t| t.alpha));
        betas.extend(tones.map(|t| t.beta));
    }
    let range = |v: &[f32]| v.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let ((low, high), (dark, bright)) = (range(&alphas), range(&betas));
    assert!((0.7..0.71).contains(&low) && (1.29..=1.3).contains(&high), "{low} to {high}");
    assert!((-0.2..-0.19).contains(&dark) && (0.19..=0.2).contains(&bright), "{dark} to {bright}");
    assert!(matches!(
        random_tones(&Augment { per_channel: false, ..augment }, &mut rng),
        Tones::All(_)
    ));
}

#[test]
fn distortion_uses_the_scaled_keys() {
    let with = |affine: f64, alpha: f64| {
        let augment = Augment {
            elastic: 1.0,
            elastic_affine: affine,
            elastic_alpha: alpha,
            elastic_sigma: 64.0,
            ..plain()
        };
        drawn(&augment, 9)
    };
    let straight = drawn(&plain(), 9);
    assert_eq!(with(0.0, 0.0), straight);
    let moved = |out: Vec<[u8; 4]>| {
        out.iter().zip(&straight).map(|(a, b)| a[0].abs_diff(b[0]).max(a[1].abs_diff(b[1]))).max()
    };
    // 64 pixels at 512 are 2 at 16; a point of the jittered three moves the corners by up to twice
    // as much again.
    assert!((1..=8).contains(&moved(with(64.0, 0.0)).unwrap()));
    assert!((1..=8).contains(&moved(with(0.0, 256.0)).unwrap()));
}

#[test]
fn five_crops_and_symmetries() {
    let image = numbered(24);
    let run = |tta: Tta| {
        let side = view_side(&plain(), tta);
        let mut out = vec![0; view_count(tta) * side * side * 4];
        views(&plain(), tta, &image, 24, &mut Scratch::default(), &mut out).unwrap();
        out.chunks_exact(side * side * 4).map(|v| v.as_chunks::<4>().0.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(run(Tta::None), [image.as_chunks::<4>().0.to_vec()]);
    let five = run(Tta::FiveCrop);
    for (view, (top, left)) in five.iter().zip([(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]) {
        assert!(
            (0..256).all(|i| view[i] == [top + (i / 16) as u8, left + (i % 16) as u8, 100, 200])
        );
    }
    let forty = run(Tta::FiveCropD4);
    for (eight, crop) in forty.chunks(8).zip(&five) {
        assert_eq!(&eight[0], crop);
        let distinct: std::collections::HashSet<_> = eight.iter().collect();
        assert_eq!(distinct.len(), 8);
        for view in eight {
            let mut sorted = view.clone();
            sorted.sort_unstable();
            assert_eq!(&sorted, crop, "the same pixels, sorted by row and column");
        }
    }
}

#[test]
fn other_stored_sizes_are_resized_first() {
    let (mut rng, mut scratch) = (stream(Use::Augment, 0, 0, 0), Scratch::default());
    let mut out = vec![0; 24 * 24 * 4];
    let image = [10u8, 20, 30, 40].repeat(48 * 48);
    views(&plain(), Tta::None, &image, 48, &mut scratch, &mut out).unwrap();
    assert_eq!(out, [10, 20, 30, 40].repeat(24 * 24));
    let mut out = vec![0; 16 * 16 * 4];
    random(&plain(), &mut rng, &image, 48, &mut scratch, &mut out).unwrap();
    assert_eq!(out, [10, 20, 30, 40].repeat(16 * 16));
}
