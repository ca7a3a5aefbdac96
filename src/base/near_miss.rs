//! What someone may have meant by a word that is not known.

use strsim::levenshtein;

/// The nearest of `candidates`, where only a few letters differ.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = candidates.into_iter().map(|known| (levenshtein(wrong, known), known));
    let (distance, near) = distances.min_by_key(|&(distance, _)| distance)?;
    (distance <= 2 + near.len() / 4).then_some(near)
}
