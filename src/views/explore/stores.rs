//! The images of a run's samples, read from the shards.

use std::sync::Arc;

use crate::{
    base::Result,
    data::{manifest::Part, shard::Store},
};

/// An image, u8 `[size, size, 4]`: red, green, blue, yellow.
#[derive(Clone)]
pub struct SampleImage {
    pub size: usize,
    pub pixels: Vec<u8>,
}

/// The shards of both parts.
#[derive(Clone)]
pub struct Stores {
    pub train: Arc<Store>,
    pub test: Arc<Store>,
}

impl Stores {
    pub fn of(&self, part: Part) -> &Store {
        match part {
            Part::Train => &self.train,
            Part::Test => &self.test,
        }
    }

    /// # Errors
    /// As [`Store::read`].
    pub fn read(&self, part: Part, place: usize) -> Result<SampleImage> {
        let store = self.of(part);
        let mut pixels = vec![0; store.size() * store.size() * 4];
        store.read(place, &mut pixels)?;
        Ok(SampleImage { size: store.size(), pixels })
    }
}
