//! The certificate authorities that servers are trusted by: those that the site names in variables,
//! else Mozilla's, which are built in, and the system's, among which a site has its own.

use std::{
    collections::HashSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Variables that name a file of certificates (PEM), or folders of such files: those of OpenSSL,
/// Python's requests and curl. Where they name any certificate, only those are trusted; otherwise a
/// warning, and the usual ones.
const VARIABLES: [&str; 4] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Where systems keep theirs; the first with any is taken.
const SYSTEM: [&str; 7] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, Red Hat
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem", // SUSE
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
];

/// No file of certificates is larger; other files may lie in the same folders.
const MAX_FILE: u64 = 16 << 20;

/// One set, or several of which any may vouch for a server.
pub fn trusted() -> Vec<RootCerts> {
    trusted_of(|name| env::var_os(name), &SYSTEM.map(Path::new))
}

fn trusted_of(variable: impl Fn(&str) -> Option<OsString>, system: &[&Path]) -> Vec<RootCerts> {
    let named = named(variable);
    if !named.is_empty() {
        return vec![RootCerts::from(named)];
    }
    let mut system = system.iter().map(|place| certificates(place).unwrap_or_default());
    let system = system.find(|found| !found.is_empty()).map(RootCerts::from);
    [RootCerts::WebPki].into_iter().chain(system).collect()
}

/// The certificates that the variables name; none where no variable is set, or none of those set
/// has any.
fn named(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Certificate<'static>> {
    let mut all = Vec::new();
    let set = VARIABLES.iter().filter_map(|name| Some((name, variable(name)?)));
    for (name, value) in set.filter(|(_, value)| !value.is_empty()) {
        for place in places(name, &value) {
            match certificates(&place) {
                Ok(found) if !found.is_empty() => all.extend(found),
                Ok(_) => log::warn!("{name}: no certificate (PEM) in {}", place.display()),
                Err(e) => log::warn!("{name}: cannot read {}: {e}", place.display()),
            }
        }
    }
    let mut known = HashSet::new();
    all.retain(|certificate| known.insert(certificate.der().to_vec()));
    all
}

/// The folders of `SSL_CERT_DIR`, which are a list, or the one path of another variable.
fn places(name: &str, value: &OsStr) -> Vec<PathBuf> {
    match name {
        "SSL_CERT_DIR" => env::split_paths(value).filter(|p| !p.as_os_str().is_empty()).collect(),
        _ => vec![value.into()],
    }
}

/// The certificates of a file, or of the files of a folder, of which those that are something else
/// are passed over.
fn certificates(place: &Path) -> std::io::Result<Vec<Certificate<'static>>> {
    if !fs::metadata(place)?.is_dir() {
        return of_file(place);
    }
    let files = fs::read_dir(place)?.flatten().map(|entry| entry.path());
    Ok(files.flat_map(|file| of_file(&file).unwrap_or_default()).collect())
}

fn of_file(file: &Path) -> std::io::Result<Vec<Certificate<'static>>> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Ok(Vec::new());
    }
    let text = fs::read(file)?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    Ok(parse_pem(&text).filter_map(certificate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PEM of bytes that no one looks into here.
    fn pem(text: &str) -> String {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.encode(text);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    fn texts(certificates: &[Certificate]) -> Vec<String> {
        certificates.iter().map(|c| String::from_utf8(c.der().to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_system_is_trusted_besides_mozilla_unless_a_variable_names_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let [site, first, second] = ["site", "first", "second"].map(|name| {
            fs::write(path(name), pem(name)).unwrap();
            path(name)
        });
        let (gone, empty) = (path("gone"), path("empty"));
        fs::write(&empty, "").unwrap();
        let of = |named: Option<&Path>, system: &[&Path]| -> Vec<Vec<String>> {
            let variable =
                |name: &str| named.filter(|_| name == "SSL_CERT_FILE").map(OsString::from);
            let names = |roots: &RootCerts| match roots {
                RootCerts::Specific(certificates) => texts(certificates),
                _ => vec!["Mozilla's".into()],
            };
            trusted_of(variable, system).iter().map(names).collect()
        };
        let system: [&Path; 4] = [&gone, &empty, &first, &second];
        assert_eq!(of(None, &system), [["Mozilla's"], ["first"]]);
        assert_eq!(of(Some(&site), &system), [["site"]]);
        for nothing in [&gone, &empty] {
            assert_eq!(of(Some(nothing), &system), [["Mozilla's"], ["first"]], "no certificate");
        }
        assert_eq!(of(None, &[&gone, &empty]), [["Mozilla's"]]);
    }

    #[test]
    fn the_variables_name_files_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (a, b, c) = (path("a.pem"), path("b"), path("c"));
        fs::write(&a, format!("a comment\n{}{}", pem("one"), pem("two"))).unwrap();
        for (folder, text) in [(&b, pem("two")), (&c, pem("three"))] {
            fs::create_dir_all(folder.join("folder")).unwrap();
            fs::write(folder.join("x.0"), &text).unwrap();
            fs::write(folder.join("same.0"), &text).unwrap();
            fs::write(folder.join("README"), "no certificate").unwrap();
        }
        fs::write(path("empty"), "").unwrap();
        let of = |set: &[(&str, &str)]| -> Vec<String> {
            let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into());
            texts(&named(find))
        };
        let [a, b, c] = [&a, &b, &c].map(|path| path.to_str().unwrap());
        assert!(of(&[]).is_empty() && of(&[("SSL_CERT_FILE", "")]).is_empty());
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
            assert_eq!(of(&[(name, a)]), ["one", "two"], "{name}");
        }
        assert_eq!(of(&[("REQUESTS_CA_BUNDLE", b)]), ["two"], "may be a folder");
        assert_eq!(of(&[("SSL_CERT_DIR", &format!("{b}:{c}:"))]), ["two", "three"]);
        assert_eq!(of(&[("SSL_CERT_FILE", a), ("SSL_CERT_DIR", c)]), ["one", "two", "three"]);
        // What is not there, as in a container, is passed over with a warning.
        let gone = path("gone").display().to_string();
        let empty = path("empty").display().to_string();
        assert_eq!(of(&[("SSL_CERT_FILE", &gone), ("REQUESTS_CA_BUNDLE", a)]), ["one", "two"]);
        assert!(of(&[("SSL_CERT_FILE", &gone), ("SSL_CERT_DIR", &empty)]).is_empty());
    }
}
