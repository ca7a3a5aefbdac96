//! The competition's files by Kaggle's REST API.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Credentials, Item, Kind, client::is_open};
use crate::{
    base::{Error, Result},
    config::Fetch,
};

/// The competition's files in the order in which tasks take them; those of an archive go to the
/// folder of its name.
pub fn files(config: &Fetch) -> Vec<Item> {
    let base = format!(
        "{}/competitions/data/download/{}",
        config.kaggle_url.trim_end_matches('/'),
        config.competition
    );
    [
        ("train.zip", Kind::Archive),
        ("test.zip", Kind::Archive),
        ("train.csv", Kind::Table),
        ("sample_submission.csv", Kind::Table),
    ]
    .map(|(file, kind)| Item { file: file.into(), url: format!("{base}/{file}"), kind })
    .into()
}

#[derive(Deserialize)]
struct Key {
    username: String,
    key: String,
}

/// Who asks: a token (`KAGGLE_API_TOKEN`, `~/.kaggle/access_token`), else a user's name and key
/// (`KAGGLE_USERNAME` and `KAGGLE_KEY`, `~/.kaggle/kaggle.json`); `KAGGLE_CONFIG_DIR` moves
/// `~/.kaggle`. The first that is there counts.
///
/// # Errors
/// Usage, where there is none, or the API's address is open to readers on the way.
pub fn credentials(config: &Fetch) -> Result<Credentials> {
    if is_open(&config.kaggle_url) {
        return Err(Error::usage(format!(
            "fetch.kaggle_url = {}: credentials go over https only",
            config.kaggle_url
        )));
    }
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".kaggle"));
    let folder =
        env::var_os("KAGGLE_CONFIG_DIR").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(home);
    let (header, source) = header(folder.as_deref())?.ok_or_else(|| {
        Error::usage(
            "no Kaggle credentials: make a token at https://www.kaggle.com/settings and set KAGGLE_API_TOKEN or write it to \
             ~/.kaggle/access_token; or set KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json into ~/.kaggle",
        )
    })?;
    let rules = format!("https://www.kaggle.com/competitions/{}/rules", config.competition);
    Ok(Credentials {
        url: config.kaggle_url.clone(),
        header,
        unauthorized: format!(
            "Kaggle does not know these credentials (401, from {source}); make new ones at \
                https://www.kaggle.com/settings"
        ),
        forbidden: format!(
            "Kaggle refuses the files (403): the competition's rules must be accepted, once and in a browser, at {rules} \
             by the owner of the credentials (from {source}); then run again"
        ),
    })
}

/// The value of the `Authorization` header and where it comes from.
fn header(folder: Option<&Path>) -> Result<Option<(String, String)>> {
    let variable =
        |name: &str| env::var(name).ok().map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
    let read = |name: &str| -> Result<Option<(PathBuf, String)>> {
        let Some(path) = folder.map(|f| f.join(name)) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::usage(format!("cannot read {}: {e}", path.display()))),
        }
    };
    let basic =
        |user: &str, key: &str| format!("Basic {}", base64(format!("{user}:{key}").as_bytes()));
    let (header, source) = if let Some(token) = variable("KAGGLE_API_TOKEN") {
        (format!("Bearer {token}"), "KAGGLE_API_TOKEN".into())
    } else if let Some((path, token)) = read("access_token")? {
        (format!("Bearer {}", token.trim()), path.display().to_string())
    } else if let (Some(user), Some(key)) = (variable("KAGGLE_USERNAME"), variable("KAGGLE_KEY")) {
        (basic(&user, &key), "KAGGLE_USERNAME and KAGGLE_KEY".into())
    } else if let Some((path, text)) = read("kaggle.json")? {
        let key: Key = serde_json::from_str(&text).map_err(|_| {
            Error::usage(format!(
                "{}: expected {{\"username\": ..., \"key\": ...}}",
                path.display()
            ))
        })?;
        (basic(&key.username, &key.key), path.display().to_string())
    } else {
        return Ok(None);
    };
    match header.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        true => Ok(Some((header, source))),
        false => Err(Error::usage(format!(
            "the Kaggle credentials from {source} hold characters that no credentials have"
        ))),
    }
}

/// Base64 (RFC 4648) with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            text.push(if i <= chunk.len() {
                DIGITS[(word >> (18 - 6 * i) & 63) as usize].into()
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_as_in_the_rfc() {
        assert_eq!(
            ["", "f", "fo", "foo", "foobar"].map(|t| super::base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy"]
        );
    }
}
