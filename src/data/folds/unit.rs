//! A group of samples, which stratification moves as one.

use crate::data::labels::{CLASSES, Labels};

/// How many samples a group has, of each class and of each pair of classes.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    pub size: u32,
    sets: Vec<Labels>,
    /// (class, samples with it), sorted.
    classes: Vec<(u16, u32)>,
}

impl Unit {
    pub fn add(&mut self, set: Labels) {
        self.size += 1;
        set.iter().for_each(|class| bump(&mut self.classes, class as u16));
        self.sets.push(set);
    }

    /// (column, samples): the classes, then in column [`CLASSES`] all samples.
    pub fn columns(&self) -> impl Iterator<Item = (usize, f64)> {
        self.classes
            .iter()
            .map(|&(class, count)| (class as usize, f64::from(count)))
            .chain([(CLASSES, f64::from(self.size))])
    }

    /// Units with equal keys can stand for each other.
    pub fn key(&self) -> (&[(u16, u32)], u32) {
        (&self.classes, self.size)
    }

    /// (feature, samples with it): the classes, or with order 2 the pairs of classes, a class with
    /// itself included.
    pub fn features(&self, order: u8) -> Vec<(u16, u32)> {
        if order < 2 {
            return self.classes.clone();
        }
        let mut pairs = Vec::new();
        for set in &self.sets {
            for a in set.iter() {
                set.iter()
                    .filter(|&b| b >= a)
                    .for_each(|b| bump(&mut pairs, (a * CLASSES + b) as u16));
            }
        }
        pairs
    }
}

fn bump(counts: &mut Vec<(u16, u32)>, key: u16) {
    match counts.binary_search_by_key(&key, |c| c.0) {
        Ok(at) => counts[at].1 += 1,
        Err(at) => counts.insert(at, (key, 1)),
    }
}
