//! Ids that mean the same sample and are written otherwise in a table than in the names of images.

use std::collections::HashMap;

use super::CHANNELS;

/// Ids of images, by what is left of them without their spelling.
pub struct Spellings<'a>(HashMap<String, &'a str>);

impl<'a> Spellings<'a> {
    pub fn of(ids: &'a [String]) -> Self {
        Self(ids.iter().map(|id| (essence(id), id.as_str())).collect())
    }

    /// The id of an image that is most likely meant by `id`.
    pub fn other(&self, id: &str) -> Option<&'a str> {
        self.0.get(&essence(id)).copied()
    }
}

/// What is left of an id without what spreadsheets and lists of files change: case, leading zeros,
/// the ending of a file, the channel.
fn essence(id: &str) -> String {
    let mut rest = id.to_lowercase();
    let channels = CHANNELS.map(|channel| format!("_{channel}"));
    let endings = [".gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff"];
    for ending in endings.into_iter().chain(channels.iter().map(String::as_str)) {
        rest.truncate(rest.strip_suffix(ending).unwrap_or(&rest).len());
    }
    rest.trim_start_matches('0').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_channels_case_and_leading_zeros_do_not_tell_ids_apart() {
        let ids = ["Well-01", "007", "a.b_c"].map(String::from);
        let spellings = Spellings::of(&ids);
        for (written, meant) in [
            ("Well-01.png", Some("Well-01")),
            ("WELL-01_blue.tif.gz", Some("Well-01")),
            ("well-01_yellow", Some("Well-01")),
            ("7", Some("007")),
            ("7.JPEG", Some("007")),
            ("a.b_c.tiff", Some("a.b_c")),
            ("a.b", None),
            ("Well-02", None),
        ] {
            assert_eq!(spellings.other(written), meant, "{written}");
        }
    }
}
