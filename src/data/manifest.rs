//! The manifest: every sample of the job, its four files, labels, source, part and shard. `plan`
//! writes it once; every later step reads it, so that all tasks on all machines see the
//! same samples in the same order.

use std::{
    fmt::Write,
    hash::Hasher,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use strum::IntoStaticStr;
use twox_hash::XxHash3_64;

use crate::{
    base::{Error, Result, csv_file},
    data::labels::Labels,
};

mod estimate;
mod files;
mod listing;
mod plan;
mod problem;
mod scan;
mod spelling;

pub use estimate::{Estimate, estimate};
pub use files::{Files, Pool};
pub use plan::Plan;
pub use problem::{Problem, ProblemKind, listed_id, problem_ids, summary, write_problems};
pub use scan::{Scan, external_table, scan, scan_images};

/// The channels of a sample in the order in which they are stored everywhere.
pub const CHANNELS: [&str; 4] = ["red", "green", "blue", "yellow"];

const HEADER: [&str; 9] =
    ["id", "source", "part", "shard", "target", "red", "green", "blue", "yellow"];

/// Where a sample comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Source {
    /// The competition's folder.
    Official,
    /// The external folder.
    External,
}

/// What a sample is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Part {
    Train,
    Test,
}

impl Source {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Part {
    /// `train` or `test`, as in the names of shards.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One sample: four gray images of the same cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub id: String,
    pub source: Source,
    pub part: Part,
    /// Empty for the test part.
    pub labels: Labels,
    pub files: Files,
    /// Number of the shard within its part.
    pub shard: usize,
}

impl Sample {
    /// The file of `channel`: 0 red, 1 green, 2 blue, 3 yellow.
    pub fn file(&self, channel: usize) -> PathBuf {
        self.files.path(&self.id, channel).into()
    }
}

/// All samples: the train part first (official before external, each by id), then the test part in
/// the order of `sample_submission.csv`. A shard is a run of consecutive samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub samples: Vec<Sample>,
}

/// One shard as the manifest lays it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    pub part: Part,
    /// Number within the part.
    pub number: usize,
    /// Its samples, as positions in [`Manifest::samples`].
    pub samples: Range<usize>,
}

impl Manifest {
    pub fn path(work: &Path) -> PathBuf {
        work.join("manifest.csv")
    }

    /// Reads `work/manifest.csv`.
    ///
    /// # Errors
    /// Names the file and line where it is missing (`plan` was not run) or not as `plan` wrote it.
    pub fn read(work: &Path) -> Result<Self> {
        type Row<'a> = (&'a str, Source, Part, usize, &'a str, [&'a str; 4]);
        let path = Self::path(work);
        let bad = |what: String| Error::data(&path, format!("{what}; run `atlas plan` again"));
        let unreadable = |e: csv::Error| csv_file::unreadable(&path, &e, "plan");
        let mut reader = csv_file::reader(&path, "plan")?;
        if reader.headers().map_err(unreadable)?.iter().ne(HEADER) {
            return Err(bad(format!("line 1: expected the columns {}", HEADER.join(","))));
        }
        let (mut samples, mut pool) = (Vec::new(), Pool::default());
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(unreadable)? {
            let (id, source, part, shard, target, files): Row =
                record.deserialize(None).map_err(unreadable)?;
            let line = record.position().map_or(0, csv::Position::line);
            let labels =
                Labels::parse(target).map_err(|what| bad(format!("line {line}: {what}")))?;
            let files = pool.files(id, files);
            samples.push(Sample { id: id.into(), source, part, labels, files, shard });
        }
        if !samples.is_sorted_by_key(|s| (s.part, s.shard)) {
            return Err(bad("the samples of a shard are not consecutive".into()));
        }
        Ok(Self { samples })
    }

    /// Writes `work/manifest.csv`, whole or not at all.
    pub fn write(&self, work: &Path) -> Result<()> {
        let rows = self.samples.iter().map(|s| {
            let files: [String; 4] = std::array::from_fn(|c| s.files.path(&s.id, c));
            (&s.id, s.source.name(), s.part.name(), s.shard, s.labels.to_string(), files)
        });
        csv_file::write(&Self::path(work), &HEADER, rows)
    }

    /// Fingerprint of the samples: ids, labels, sources, parts and shards. The files' paths are
    /// left out, so that the same images at another place or in another file format give the same
    /// shards.
    pub fn hash(&self) -> u64 {
        hash_of(&self.samples, |line, s| {
            let (source, part) = (s.source.name(), s.part.name());
            writeln!(line, "{},{source},{part},{},{}", s.id, s.shard, s.labels)
        })
    }

    /// Fingerprint of the training samples alone: ids, labels and sources. It tells the data of two
    /// runs apart, wherever the files are, however they are cut into shards and whatever is to be
    /// predicted.
    pub fn training_hash(&self) -> u64 {
        let training = self.samples.iter().filter(|s| s.part == Part::Train);
        hash_of(training, |line, s| writeln!(line, "{},{},{}", s.id, s.source.name(), s.labels))
    }

    /// The shards in order: train, then test. The position in this list is the shard's unit of
    /// work: task i of N does units i, i+N, ...; `quarantine-NNNNN.csv` counts the same way.
    pub fn shards(&self) -> Vec<ShardPlan> {
        let mut shards: Vec<ShardPlan> = Vec::new();
        for (i, s) in self.samples.iter().enumerate() {
            match shards.last_mut() {
                Some(last) if (last.part, last.number) == (s.part, s.shard) => {
                    last.samples.end = i + 1
                }
                _ => shards.push(ShardPlan { part: s.part, number: s.shard, samples: i..i + 1 }),
            }
        }
        shards
    }

    /// Number of samples of a part.
    pub fn count(&self, part: Part) -> usize {
        self.samples.iter().filter(|s| s.part == part).count()
    }
}

/// A hash of one line for each sample.
fn hash_of<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    write: impl Fn(&mut String, &Sample) -> std::fmt::Result,
) -> u64 {
    let (mut hash, mut line) = (XxHash3_64::new(), String::new());
    for sample in samples {
        line.clear();
        let _ = write(&mut line, sample); // a String takes everything
        hash.write(line.as_bytes());
    }
    hash.finish()
}

/// The well of an external id `<antibody>_<plate>_<well>_<field>`: `antibody_plate_well`. `None`
/// for official ids.
pub fn well_of(id: &str) -> Option<&str> {
    antibody_of(id)?;
    let (third, _) = id.match_indices('_').nth(2)?;
    Some(&id[..third])
}

/// The antibody of an external id. `None` for official ids, which have no underscore.
pub fn antibody_of(id: &str) -> Option<&str> {
    let (antibody, rest) = id.split_once('_')?;
    (!antibody.is_empty()
        && antibody.bytes().all(|b| b.is_ascii_digit())
        && rest.split('_').count() >= 3)
        .then_some(antibody)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample(id: &str, part: Part, shard: usize) -> Sample {
        let paths = CHANNELS.map(|c| format!("/d, e/{id}_{c}.png"));
        let files = Pool::default().files(id, paths.each_ref().map(String::as_str));
        let labels = if part == Part::Train {
            Labels::from_classes([2, 16]).unwrap()
        } else {
            Labels::default()
        };
        Sample { id: id.into(), source: Source::Official, part, labels, files, shard }
    }

    #[test]
    fn writes_and_reads_back_and_knows_its_shards() {
        let dir = tempfile::tempdir().unwrap();
        let samples = vec![
            sample("a", Part::Train, 0),
            sample("b", Part::Train, 0),
            sample("c", Part::Train, 1),
            sample("d", Part::Test, 0),
        ];
        let manifest = Manifest { samples };
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);
        let shards: Vec<_> =
            manifest.shards().into_iter().map(|s| (s.part, s.number, s.samples)).collect();
        assert_eq!(shards, [(Part::Train, 0, 0..2), (Part::Train, 1, 2..3), (Part::Test, 0, 3..4)]);
    }

    #[test]
    fn the_hash_depends_on_labels_and_shards_but_not_on_paths() {
        let base =
            Manifest { samples: vec![sample("a", Part::Train, 0), sample("b", Part::Train, 0)] };
        let changed = |f: fn(&mut Manifest)| {
            let mut m = base.clone();
            f(&mut m);
            m.hash() != base.hash()
        };
        assert!(changed(|m| m.samples[1].labels.insert(3)));
        assert!(changed(|m| m.samples[1].shard = 1));
        assert!(changed(|m| m.samples[0].id.push('x')));
        assert!(changed(|m| m.samples[0].source = Source::External));
        assert!(!changed(
            |m| m.samples[0].files = Pool::default().files("a", ["/elsewhere/a_red.tif.gz"; 4])
        ));
    }

    #[test]
    fn the_training_hash_depends_on_ids_labels_and_sources_of_training_samples_alone() {
        let base =
            Manifest { samples: vec![sample("a", Part::Train, 0), sample("t", Part::Test, 0)] };
        let changed = |f: fn(&mut Manifest)| {
            let mut m = base.clone();
            f(&mut m);
            m.training_hash() != base.training_hash()
        };
        assert!(changed(|m| m.samples[0].labels.insert(3)));
        assert!(changed(|m| m.samples[0].id.push('x')));
        assert!(changed(|m| m.samples[0].source = Source::External));
        assert!(changed(|m| m.samples.insert(1, sample("b", Part::Train, 0))));
        assert!(!changed(|m| m.samples[0].shard = 1));
        assert!(!changed(|m| m.samples.push(sample("u", Part::Test, 0))));
        assert!(!changed(
            |m| m.samples[0].files = Pool::default().files("a", ["/elsewhere/a_red.tif.gz"; 4])
        ));
    }

    #[test]
    fn a_missing_or_broken_manifest_is_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("`atlas plan`"));
        let header = HEADER.join(",");
        for (rows, part) in [
            ("a,official,train,x,1,r,g,b,y", "line 2: "),
            ("a,official,trian,0,1,r,g,b,y", "`trian`"),
            ("a,official,train,0,99,r,g,b,y", "`99`"),
            ("a,official,train,0", "manifest.csv: "),
            ("a,official,test,0,,r,g,b,y\nb,official,train,0,1,r,g,b,y", "manifest.csv: "),
        ] {
            std::fs::write(Manifest::path(dir.path()), format!("{header}\n{rows}\n")).unwrap();
            let e = Manifest::read(dir.path()).unwrap_err();
            assert!(e.to_string().contains(part) && e.exit_code() == 65, "{rows}: {e}");
        }
    }

    #[test]
    fn wells_and_antibodies_of_ids() {
        assert_eq!(well_of("10580_1610_C1_2"), Some("10580_1610_C1"));
        assert_eq!(well_of("11651_1732_F3_13_cr580610dc203b9"), Some("11651_1732_F3"));
        assert_eq!(antibody_of("11651_1732_F3_13_cr580610dc203b9"), Some("11651"));
        for official in ["030822be-bb9b-11e8-b2b9-ac1f6b6435d0", "a_b_c_d", "1_2_3", ""] {
            assert_eq!((well_of(official), antibody_of(official)), (None, None), "{official}");
        }
    }
}
