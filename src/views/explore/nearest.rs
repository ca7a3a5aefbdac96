//! Similar samples: by perceptual hash, and by embedding.

use std::sync::{OnceLock, RwLock};

use rayon::prelude::*;

/// Distance of two samples' hashes in bits: the maximum over red, green and blue, as for
/// `dedup.radius`. Yellow is ignored.
pub fn bits(a: [u64; 4], b: [u64; 4]) -> u32 {
    (0..3).map(|c| (a[c] ^ b[c]).count_ones()).max().unwrap_or(0)
}

/// The `most` numbers below `n`, except `without`, with the smallest distances, nearest first; of
/// equal distances the lower number first.
pub fn nearest<D: PartialOrd + Copy + Send>(
    n: usize,
    without: Option<usize>,
    most: usize,
    distance: impl Fn(usize) -> D + Sync,
) -> Vec<(usize, D)> {
    let others = (0..n).into_par_iter().filter(|&i| Some(i) != without);
    let mut all: Vec<(usize, D)> = others.map(|i| (i, distance(i))).collect();
    // No distance is NaN: any two can be compared.
    let order = |a: &(usize, D), b: &(usize, D)| {
        a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal).then(a.0.cmp(&b.0))
    };
    if most < all.len() {
        all.select_nth_unstable_by(most, order);
        all.truncate(most);
    }
    all.sort_unstable_by(order);
    all
}

/// Embeddings of the first samples with one byte per feature, a quarter of the memory of f32. The
/// error of a cosine is below 0.01.
pub struct Embeddings {
    /// Most bytes of all embeddings.
    limit: usize,
    features: OnceLock<usize>,
    values: RwLock<Vec<i8>>,
}

impl Embeddings {
    pub fn new(limit: usize) -> Self {
        Self { limit, features: OnceLock::new(), values: RwLock::new(Vec::new()) }
    }

    /// Number of embeddings.
    pub fn len(&self) -> usize {
        self.features.get().map_or(0, |features| self.lock().len() / features)
    }

    /// How many fit into memory; unknown before the first one.
    pub fn room(&self) -> Option<usize> {
        self.features.get().map(|features| self.limit / features)
    }

    /// Adds the embedding of the next sample.
    pub fn push(&self, embedding: &[f32]) {
        let features = *self.features.get_or_init(|| embedding.len());
        assert_eq!(features, embedding.len(), "of one network");
        self.values.write().unwrap_or_else(|e| e.into_inner()).extend(small(embedding));
    }

    /// The embedding of a sample whose image is damaged: its cosine to any other is 0. `None`
    /// before the first embedding.
    pub fn zeros(&self) -> Option<Vec<f32>> {
        self.features.get().map(|&features| vec![0.0; features])
    }

    /// The embedding of a sample, if there is one.
    pub fn get(&self, i: usize) -> Option<Vec<f32>> {
        let features = *self.features.get()?;
        self.lock()
            .get(i * features..(i + 1) * features)
            .map(|values| values.iter().map(|&v| f32::from(v)).collect())
    }

    /// The samples with the largest cosines to `embedding`, with these cosines.
    pub fn nearest(
        &self,
        embedding: &[f32],
        without: Option<usize>,
        most: usize,
    ) -> Vec<(usize, f32)> {
        let (values, query) = (self.lock(), small(embedding));
        let length = |a: &[i8]| (dot(a, a) as f32).sqrt();
        let own = length(&query);
        let cosine = |i: usize| {
            let other = &values[i * query.len()..][..query.len()];
            dot(&query, other) as f32 / (own * length(other)).max(1.0)
        };
        let found = nearest(values.len() / query.len().max(1), without, most, |i| -cosine(i));
        found.into_iter().map(|(i, negative)| (i, -negative)).collect()
    }

    fn lock(&self) -> std::sync::RwLockReadGuard<'_, Vec<i8>> {
        self.values.read().unwrap_or_else(|e| e.into_inner())
    }
}

/// The embedding scaled to integers of at most 127.
fn small(embedding: &[f32]) -> Vec<i8> {
    let most = embedding.iter().fold(0f32, |most, v| most.max(v.abs())).max(f32::MIN_POSITIVE);
    embedding.iter().map(|v| (v / most * 127.0).round() as i8).collect()
}

fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        let mut rng = crate::base::rng::stream(crate::base::rng::Use::Synth, 4, 0, 0);
        let hashes: Vec<[u64; 4]> =
            (0..500).map(|_| rng.random::<[u64; 4]>().map(|h| h & 0xff)).collect();
        let mut want: Vec<(u32, usize)> =
            (0..500).filter(|&i| i != 7).map(|i| (bits(hashes[7], hashes[i]), i)).collect();
        want.sort_unstable();
        let got = nearest(500, Some(7), 20, |i| bits(hashes[7], hashes[i]));
        assert_eq!(got.iter().map(|&(i, d)| (d, i)).collect::<Vec<_>>(), want[..20]);
        assert_eq!(nearest(3, None, 20, |i| 3 - i), [(2, 1), (1, 2), (0, 3)]);
        assert_eq!(bits([0, 0, 0, 0], [1, 3, 0, !0]), 2, "the largest of three, without yellow");
    }

    #[test]
    fn cosines_are_those_of_the_whole_numbers() {
        let mut rng = crate::base::rng::stream(crate::base::rng::Use::Synth, 5, 0, 0);
        let vectors: Vec<Vec<f32>> = (0..300)
            .map(|_| (0..64).map(|_| rng.random::<f32>().powi(3) * 9.0).collect())
            .collect();
        let embeddings = Embeddings::new(300 * 64);
        assert_eq!((embeddings.len(), embeddings.room()), (0, None));
        vectors.iter().for_each(|v| embeddings.push(v));
        assert_eq!((embeddings.len(), embeddings.room()), (300, Some(300)));
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let found = embeddings.nearest(&vectors[11], Some(11), 299);
        for &(i, got) in &found {
            assert!(
                (f64::from(got) - cosine(&vectors[11], &vectors[i])).abs() < 0.01,
                "{i}: {got}"
            );
        }
        assert!(found.is_sorted_by(|a, b| a.1 >= b.1) && !found.iter().any(|f| f.0 == 11));
        let own = embeddings.nearest(&embeddings.get(11).unwrap(), None, 1);
        assert!(own[0].0 == 11 && (own[0].1 - 1.0).abs() < 1e-3, "{own:?}");
        assert!(embeddings.get(300).is_none());
        assert!(
            embeddings.nearest(&[0.0; 64], None, 2).iter().all(|n| n.1 == 0.0),
            "a zero embedding has no direction"
        );
    }
}
