//! The addresses of the four images of an external sample, from its id.
//!
//! `10580_1610_C1_1` is antibody 10580, plate 1610, well C1, field 1; its red channel is at
//! `<images_url>/10580/1610_C1_1_red.jpg`. Newer ids have more after the field (a hash of the
//! crop); single channels are served under plate, well and field alone.

use super::{FileKind, Item};
use crate::data::manifest::CHANNELS;

/// The four files of each id, in order; and the ids that are not images of the Atlas, with the
/// reason.
pub fn images(ids: &[String], base: &str) -> (Vec<Item>, Vec<(String, &'static str)>) {
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    let base = base.trim_end_matches('/');
    for id in ids {
        match server_path(id) {
            Ok(path) => items.extend(CHANNELS.iter().map(|channel| Item {
                file: format!("images/{id}_{channel}.jpg"),
                url: format!("{base}/{path}_{channel}.jpg"),
                kind: FileKind::Image,
            })),
            Err(reason) => refused.push((id.clone(), reason)),
        }
    }
    (items, refused)
}

/// Bytes of an id: with a channel and an ending it has to be a file name, of at most 255.
const LONGEST_ID: usize = 200;

/// `<antibody>/<plate>_<well>_<field>` of an id.
fn server_path(id: &str) -> Result<String, &'static str> {
    let expected = "expected <antibody>_<plate>_<well>_<field>";
    if id.contains('-') {
        return Err("ids with - are not of the Atlas");
    }
    if id.len() > LONGEST_ID {
        return Err("longer than the ids of the Atlas");
    }
    let parts: Vec<&str> = id.split('_').collect();
    if parts.iter().any(|p| p.starts_with("si")) {
        return Err("siRNA images are not served");
    }
    // Only these characters, even in the part that is not used in the address: the id becomes a
    // file name.
    if parts.iter().any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric())) {
        return Err(expected);
    }
    match parts[..] {
        [antibody, plate, well, field, ..]
            if [antibody, field].iter().all(|p| p.bytes().all(|b| b.is_ascii_digit())) =>
        {
            Ok(format!("{antibody}/{plate}_{well}_{field}"))
        }
        _ => Err(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_addresses() {
        assert_eq!(server_path("10580_1610_C1_1").unwrap(), "10580/1610_C1_1");
        assert_eq!(
            server_path("22_1852_D3_20_cr5afd37edbb5e8_b").unwrap(),
            "22/1852_D3_20",
            "without the hash"
        );
        for id in [
            "10580",
            "10580_1610_C1",
            "0b6eb490-bbaf-11e8",
            "1_si12_C1_1",
            "1__C1_1",
            "1_2_C1_../x",
            "../1_2_3_4",
            "",
            "x_1_C1_1",
        ] {
            assert!(server_path(id).is_err(), "{id}");
        }
        assert!(server_path(&format!("1_2_C1_3_{}", "a".repeat(LONGEST_ID))).is_err());
        let (items, refused) = images(&["1_2_C1_3_cr9".into(), "a-b".into()], "https://host/");
        assert_eq!((items.len(), refused.len()), (4, 1));
        assert_eq!(
            (items[3].file.as_str(), items[3].url.as_str()),
            ("images/1_2_C1_3_cr9_yellow.jpg", "https://host/1/2_C1_3_yellow.jpg")
        );
    }
}
