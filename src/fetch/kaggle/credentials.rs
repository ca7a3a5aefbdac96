//! Where the credentials for Kaggle's API come from.

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    fs,
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

/// A token (`KAGGLE_API_TOKEN`, the file `access_token`), else a user name and key
/// (`KAGGLE_USERNAME` and `KAGGLE_KEY`, the file `kaggle.json`). The files are looked for where
/// Kaggle's own program keeps them, see [`folders`]. The first that is found is used.
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
    let folders = folders(|name| env::var_os(name));
    let Authorization { header, source } = authorization(&folders, variable)?;
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

/// A variable's text, without blanks around it; none where it is empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|v| v.trim().to_string()).filter(|v| !v.is_empty())
}

/// Where Kaggle's program keeps its files: in `KAGGLE_CONFIG_DIR` if that is set, else in
/// `~/.kaggle` or `kaggle/` of the user's configuration (`XDG_CONFIG_HOME`, by default
/// `~/.config`).
fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(folder) = path("KAGGLE_CONFIG_DIR") {
        return vec![folder];
    }
    let home = path("HOME");
    // A relative one is to be ignored (XDG Base Directory Specification).
    let user = path("XDG_CONFIG_HOME").filter(|p| p.is_absolute());
    let user = user.or_else(|| Some(home.as_ref()?.join(".config")));
    let own = home.map(|home| home.join(".kaggle"));
    own.into_iter().chain(user.map(|user| user.join("kaggle"))).collect()
}

/// The value of the `Authorization` header, and where it comes from.
#[derive(Debug, PartialEq)]
struct Authorization {
    header: String,
    source: String,
}

#[derive(Deserialize)]
struct UserKey {
    username: String,
    key: String,
}

/// The first credentials of `folders` and variables. A file without any, or one that cannot be
/// read, does not hide those after it.
///
/// # Errors
/// Usage, if there are none; it names the files that were passed over.
fn authorization(
    folders: &[PathBuf],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Authorization> {
    let mut troubles = Vec::new();
    if let Some(token) = variable("KAGGLE_API_TOKEN") {
        return Ok(Authorization::bearer(&token, "KAGGLE_API_TOKEN"));
    }
    for path in folders.iter().map(|folder| folder.join("access_token")) {
        if let Some(token) = read(&path, &mut troubles) {
            return Ok(Authorization::bearer(&token, path.display()));
        }
    }
    match (variable("KAGGLE_USERNAME"), variable("KAGGLE_KEY")) {
        (Some(user), Some(key)) => {
            return Ok(Authorization::basic(&user, &key, "KAGGLE_USERNAME and KAGGLE_KEY"));
        }
        (Some(_), None) => troubles.push("KAGGLE_USERNAME is set, but KAGGLE_KEY is not".into()),
        (None, Some(_)) => troubles.push("KAGGLE_KEY is set, but KAGGLE_USERNAME is not".into()),
        (None, None) => {}
    }
    for path in folders.iter().map(|folder| folder.join("kaggle.json")) {
        let Some(text) = read(&path, &mut troubles) else { continue };
        match serde_json::from_str(&text) {
            Ok(UserKey { username, key }) if !username.is_empty() && !key.is_empty() => {
                return Ok(Authorization::basic(&username, &key, path.display()));
            }
            _ => troubles
                .push(format!("{}: expected {{\"username\": ..., \"key\": ...}}", path.display())),
        }
    }
    let found = match troubles.is_empty() {
        true => String::new(),
        false => format!(" ({})", troubles.join("; ")),
    };
    let own = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" or ");
    let own = if own.is_empty() { "~/.kaggle".into() } else { own };
    Err(Error::usage(format!(
        "no Kaggle credentials{found}: make a token at https://www.kaggle.com/settings and set \
         KAGGLE_API_TOKEN or write it to the file access_token in {own}; or set KAGGLE_USERNAME \
         and KAGGLE_KEY, or put kaggle.json there"
    )))
}

/// The text of a file of credentials, without blanks around it. A file that is empty or cannot be
/// read is none, and is added to `troubles`.
fn read(path: &Path, troubles: &mut Vec<String>) -> Option<String> {
    let trouble = match fs::read_to_string(path) {
        Ok(text) => match text.trim_start_matches('\u{feff}').trim() {
            "" => format!("{} is empty", path.display()),
            text => return Some(text.into()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => format!("cannot read {}: {e}", path.display()),
    };
    log::warn!("{trouble}; looking for other Kaggle credentials");
    troubles.push(trouble);
    None
}

impl Authorization {
    fn bearer(token: &str, source: impl Display) -> Self {
        Self { header: format!("Bearer {token}"), source: source.to_string() }
    }

    fn basic(user: &str, key: &str, source: impl Display) -> Self {
        Self { header: basic(user, key), source: source.to_string() }
    }
}

/// Basic authentication (RFC 7617).
fn basic(user: &str, key: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{key}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_key_are_base64_with_padding() {
        assert_eq!(
            [("", "f"), ("f", ""), ("foo", "bar")].map(|(user, key)| basic(user, key)),
            ["Basic OmY=", "Basic Zjo=", "Basic Zm9vOmJhcg=="]
        );
    }

    #[test]
    fn kaggles_files_are_looked_for_where_its_program_keeps_them() {
        let of = |set: &[(&str, &str)]| -> Vec<String> {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
            folders(find).iter().map(|f| f.display().to_string()).collect()
        };
        assert_eq!(of(&[("HOME", "/h")]), ["/h/.kaggle", "/h/.config/kaggle"]);
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), ["/h/.kaggle", "/x/kaggle"]);
        for none in ["", "relative"] {
            let home = of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", none)]);
            assert_eq!(home, ["/h/.kaggle", "/h/.config/kaggle"], "`{none}`");
        }
        assert_eq!(of(&[("XDG_CONFIG_HOME", "/x")]), ["/x/kaggle"]);
        assert_eq!(of(&[("HOME", "/h"), ("KAGGLE_CONFIG_DIR", "/k")]), ["/k"]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_file_without_credentials_does_not_hide_good_ones() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| dir.path().join(name));
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let of = |user: Option<(&str, &str)>| {
            authorization(&folders, |name| match (name, user) {
                ("KAGGLE_USERNAME", Some((user, _))) => Some(user.into()),
                ("KAGGLE_KEY", Some((_, key))) => Some(key.into()),
                _ => None,
            })
        };
        let key = |folder: usize, text: &str| {
            fs::write(folders[folder].join("kaggle.json"), text).unwrap();
        };
        fs::write(folders[0].join("access_token"), " \n").unwrap();
        let e = of(None).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("access_token is empty"), "{e}");
        key(0, "");
        key(1, r#"{"username":"foo","key":"bar"}"#);
        let path = folders[1].join("kaggle.json");
        assert_eq!(of(None).unwrap(), Authorization::basic("foo", "bar", path.display()));
        key(0, r#"{"username":"foo"}"#);
        assert_eq!(of(None).unwrap().header, "Basic Zm9vOmJhcg==");
        assert_eq!(of(Some(("f", ""))).unwrap().header, "Basic Zjo=", "the variables come first");
        key(1, r#"{"username":"","key":""}"#);
        let e = of(None).unwrap_err().to_string();
        assert!(folders.iter().all(|f| e.contains(&*f.to_string_lossy())), "{e}");
        // A folder in its place cannot be read.
        fs::create_dir(folders[1].join("access_token")).unwrap();
        assert!(of(None).unwrap_err().to_string().contains("cannot read "));
        fs::remove_dir(folders[1].join("access_token")).unwrap();
        fs::write(folders[1].join("access_token"), "\u{feff}token\r\n").unwrap();
        assert_eq!(of(Some(("f", ""))).unwrap().header, "Bearer token");
    }
}
