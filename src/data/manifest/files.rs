//! The files of samples, in little memory: those of a folder differ only in the id, so that they
//! share the rest.

use std::{collections::HashSet, sync::Arc};

/// Stands for the id; no path has this character.
pub(super) const ID: char = '\0';

/// The paths of a sample's red, green, blue and yellow file, with NUL in the place of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(pub(super) Arc<[String; 4]>);

impl Files {
    /// The file of `channel` of the sample `id`.
    pub(super) fn path(&self, id: &str, channel: usize) -> String {
        self.0[channel].replace(ID, id)
    }
}

/// What is shared so far.
#[derive(Default)]
pub struct Pool {
    known: HashSet<Arc<[String; 4]>>,
    next: [String; 4],
}

impl Pool {
    /// The `paths` of the sample `id`.
    pub fn files(&mut self, id: &str, paths: [&str; 4]) -> Files {
        for (next, path) in self.next.iter_mut().zip(paths) {
            next.clear();
            // The name begins with the id, unless another program wrote the manifest.
            let name = path.rfind('/').map_or(0, |at| at + 1);
            match path[name..].strip_prefix(id) {
                Some(rest) => {
                    next.push_str(&path[..name]);
                    next.push(ID);
                    next.push_str(rest);
                }
                None => next.push_str(path),
            }
        }
        if let Some(known) = self.known.get(&self.next) {
            return Files(known.clone());
        }
        let new = Arc::new(self.next.clone());
        self.known.insert(new.clone());
        Files(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_folder_share_their_files() {
        let mut pool = Pool::default();
        let of =
            |id: &str| ["red", "green", "blue", "yellow"].map(|c| format!("/d/a/{id}_{c}.png"));
        let mut files =
            |id: &str, paths: [String; 4]| pool.files(id, paths.each_ref().map(String::as_str));
        let (a, b) = (files("a", of("a")), files("b", of("b")));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        assert_eq!(b.path("b", 2), "/d/a/b_blue.png");
        // Elsewhere for one channel, under another name.
        let paths = ["/e/b.tif", "x", "/d/a/b_blue.png", "b"];
        let other = files("b", paths.map(String::from));
        assert_eq!([0, 1, 2, 3].map(|c| other.path("b", c)), paths);
    }
}
