//! Where the credentials for Kaggle's API come from.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use url::Url;

use crate::{
    base::{Error, Result},
    config,
    fetch::{client::Credentials, redirect::is_unencrypted},
};

/// A token (`KAGGLE_API_TOKEN`, `~/.kaggle/access_token`), else a user name and key
/// (`KAGGLE_USERNAME` and `KAGGLE_KEY`, `~/.kaggle/kaggle.json`); `KAGGLE_CONFIG_DIR` replaces
/// `~/.kaggle`. The first that is found is used.
///
/// # Errors
/// Usage, if there are none, or the API's address is not encrypted.
pub fn credentials(config: &config::Fetch) -> Result<Credentials> {
    let url = &config.kaggle_url;
    let wrong = |what: String| Error::usage(format!("fetch.kaggle_url = {url}: {what}"));
    let host = Url::parse(url).map_err(|e| wrong(e.to_string()))?;
    if is_unencrypted(&host) {
        return Err(wrong("credentials go over https only".into()));
    }
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".kaggle"));
    let folder =
        env::var_os("KAGGLE_CONFIG_DIR").filter(|v| !v.is_empty()).map(PathBuf::from).or_else(home);
    let (header, source) = authorization(folder.as_deref())?.ok_or_else(|| {
        Error::usage(
            "no Kaggle credentials: make a token at https://www.kaggle.com/settings and set \
             KAGGLE_API_TOKEN or write it to ~/.kaggle/access_token; or set KAGGLE_USERNAME and \
             KAGGLE_KEY, or put kaggle.json into ~/.kaggle",
        )
    })?;
    if !header.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        return Err(Error::usage(format!(
            "the Kaggle credentials from {source} contain characters that are not allowed there"
        )));
    }
    let rules = format!("https://www.kaggle.com/competitions/{}/rules", config.competition);
    Ok(Credentials {
        host: host.origin(),
        header,
        unauthorized: format!(
            "Kaggle does not know these credentials (401, from {source}); make new ones at \
             https://www.kaggle.com/settings"
        ),
        forbidden: format!(
            "Kaggle refuses the files (403): the competition's rules must be accepted, once and in \
             a browser, at {rules} by the owner of the credentials (from {source}); then run again"
        ),
    })
}

#[derive(Deserialize)]
struct UserKey {
    username: String,
    key: String,
}

/// The value of the `Authorization` header, and where it comes from.
fn authorization(folder: Option<&Path>) -> Result<Option<(String, String)>> {
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
    if let Some(token) = variable("KAGGLE_API_TOKEN") {
        return Ok(Some((format!("Bearer {token}"), "KAGGLE_API_TOKEN".into())));
    }
    if let Some((path, token)) = read("access_token")? {
        return Ok(Some((format!("Bearer {}", token.trim()), path.display().to_string())));
    }
    if let (Some(user), Some(key)) = (variable("KAGGLE_USERNAME"), variable("KAGGLE_KEY")) {
        return Ok(Some((basic(&user, &key), "KAGGLE_USERNAME and KAGGLE_KEY".into())));
    }
    let Some((path, text)) = read("kaggle.json")? else { return Ok(None) };
    let path = path.display().to_string();
    let UserKey { username, key } = serde_json::from_str(&text).map_err(|_| {
        Error::usage(format!("{path}: expected {{\"username\": ..., \"key\": ...}}"))
    })?;
    Ok(Some((basic(&username, &key), path)))
}

/// Basic authentication (RFC 7617).
fn basic(user: &str, key: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{key}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn user_and_key_are_base64_with_padding() {
        assert_eq!(
            [("", "f"), ("f", ""), ("foo", "bar")].map(|(user, key)| super::basic(user, key)),
            ["Basic OmY=", "Basic Zjo=", "Basic Zm9vOmJhcg=="]
        );
    }
}
