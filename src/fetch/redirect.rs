//! Which redirects are followed, and over which addresses credentials may be sent.

use url::{Host, Url};

use super::attempt_error::AttemptError;

/// Whether others can read what is sent to `url`: plain HTTP to another machine.
pub fn is_unencrypted(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !local
}

/// The address that `location`, in an answer of `url`, refers to.
pub fn redirect(url: &Url, location: &str) -> Result<Url, AttemptError> {
    let refused = |what: String| Err(AttemptError::Refused(what));
    let to = url
        .join(location)
        .map_err(|e| AttemptError::Refused(format!("a redirect to `{location}`: {e}")))?;
    if !["http", "https"].contains(&to.scheme()) {
        return refused(format!("a redirect to {}, which is not HTTP", to.scheme()));
    }
    if !to.username().is_empty() || to.password().is_some() {
        return refused("a redirect to an address with a user name".into());
    }
    if url.scheme() == "https" && is_unencrypted(&to) {
        let host = to.origin().ascii_serialization();
        return refused(format!("a redirect from https to http ({host})"));
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_safe_addresses() {
        let url = |text| Url::parse(text).unwrap();
        let to = |from, location| match redirect(&url(from), location) {
            Ok(to) => Ok(to.to_string()),
            Err(e) => Err(e.to_string()),
        };
        assert_eq!(to("https://a/x/y?q", "https://b/z").unwrap(), "https://b/z");
        assert_eq!(to("https://a/x/y?q", "/z").unwrap(), "https://a/z");
        assert_eq!(to("https://a/x/y?u=p/q", "z").unwrap(), "https://a/x/z");
        assert_eq!(to("https://a", "z").unwrap(), "https://a/z");
        assert_eq!(to("https://a/x", "//b/z").unwrap(), "https://b/z");
        assert_eq!(to("https://a/x", "/z?back=http://b").unwrap(), "https://a/z?back=http://b");
        assert_eq!(to("http://a/x", "http://b/").unwrap(), "http://b/");
        assert_eq!(to("https://a/x", "http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080/");
        assert!(to("https://a/x", "http://b/").is_err(), "data and credentials stay encrypted");
        assert!(to("https://a/x", "//b/z").is_ok() && to("https://a/x", "ftp://b/").is_err());
        assert!(to("https://a/x", "https://u@b/").is_err());
        assert!(is_unencrypted(&url("http://localhost:x@evil.org/")));
        assert!(is_unencrypted(&url("http://localhost.evil.org/")));
        assert!(!is_unencrypted(&url("http://localhost:1/")));
    }
}
