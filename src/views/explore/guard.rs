//! Access control: requests are accepted from this page in a browser on this machine, or from
//! anywhere with the token.

use std::{fmt::Write, net::IpAddr};

use axum::http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority};
use subtle::ConstantTimeEq;

use crate::base::host;

/// The access rules of a server.
pub struct Guard {
    /// The address on which the server listens.
    address: IpAddr,
    port: u16,
    token: Option<String>,
}

/// The decision about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The URL of the page has the token: set this cookie and redirect to the URL without it.
    Enter {
        cookie: String,
    },
    Refuse(StatusCode, &'static str),
}

impl Guard {
    pub fn new(address: IpAddr, port: u16, token: Option<String>) -> Self {
        Self { address, port, token }
    }

    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
        let refuse = Verdict::Refuse;
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) else {
            return refuse(StatusCode::BAD_REQUEST, "a request needs one Host header");
        };
        if !host.parse::<Authority>().is_ok_and(|authority| self.is_ours(authority.host())) {
            return refuse(
                StatusCode::FORBIDDEN,
                "the Host header names another machine; take the address that was printed",
            );
        }
        // No browser does this. Servers and proxies disagree on where such a body ends, in which
        // another request can be hidden; and it may have no end.
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return refuse(
                StatusCode::LENGTH_REQUIRED,
                "the length of the body is missing; send Content-Length instead of \
                    Transfer-Encoding",
            );
        }
        // A browser sends the origin of the page; only other programs omit it.
        let ours = |origin: &str| origin.strip_prefix("http://") == Some(host);
        let origins = headers.get_all(header::ORIGIN);
        if method == Method::POST && !origins.iter().all(|origin| origin.to_str().is_ok_and(ours)) {
            return refuse(
                StatusCode::FORBIDDEN,
                "the Origin header names another page; nothing is taken from there",
            );
        }
        // Another page must not start inference either, for example by an <img> with our URL. A
        // page on another port of this machine counts as the same site.
        if headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "cross-site" || site == "same-site")
            && uri.path() != "/"
        {
            return refuse(
                StatusCode::FORBIDDEN,
                "another page asks; open the address that was printed",
            );
        }
        let Some(token) = &self.token else { return Verdict::Pass };
        let right = |given: &str| bool::from(given.as_bytes().ct_eq(token.as_bytes()));
        let name = format!("atlas-{}", self.port);
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|c| c.to_str().ok())
            .flat_map(|c| c.split(';'));
        if cookies
            .filter_map(|c| c.trim().split_once('='))
            .any(|(n, value)| n == name && right(value))
        {
            return Verdict::Pass;
        }
        let given =
            uri.query().unwrap_or("").split('&').find_map(|part| part.strip_prefix("token="));
        match given.is_some_and(right) {
            true if uri.path() == "/" => {
                Verdict::Enter { cookie: format!("{name}={token}; HttpOnly; SameSite=Lax; Path=/") }
            }
            true => Verdict::Pass,
            false => refuse(
                StatusCode::UNAUTHORIZED,
                "the token is missing or wrong; open the whole address that was printed",
            ),
        }
    }

    /// Whether a Host header can mean this server. Against DNS rebinding: a page whose own name was
    /// made to resolve to this machine sends that name. An IP address cannot be redirected so.
    fn is_ours(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(ip) => ip == self.address || ip.is_loopback() || self.address.is_unspecified(),
            Err(_) => {
                host.eq_ignore_ascii_case("localhost")
                    || (self.token.is_some() && host.eq_ignore_ascii_case(&host::name()))
            }
        }
    }
}

/// 32 random hexadecimal digits.
pub fn random_token() -> String {
    rand::random::<[u8; 16]>().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes anything
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        guard: &Guard,
        method: Method,
        address: &str,
        headers: &[(&'static str, &str)],
    ) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        match guard.check(&method, &address.parse().unwrap(), &map) {
            Verdict::Pass => 200,
            Verdict::Enter { .. } => 303,
            Verdict::Refuse(status, _) => status.as_u16(),
        }
    }

    #[test]
    fn host_names_of_other_machines_are_refused() {
        let local = Guard::new("127.0.0.1".parse().unwrap(), 8642, None);
        let of = |host: &str| verdict(&local, Method::GET, "/", &[("host", host)]);
        for host in [
            "127.0.0.1:8642",
            "localhost:8642",
            "LOCALHOST",
            "localhost:9000",
            "[::1]:8642",
            "127.0.0.1",
        ] {
            assert_eq!(of(host), 200, "{host}");
        }
        let own = host::name();
        for host in [
            "evil.example",
            "evil.example:8642",
            "localhost.evil.example",
            "10.0.0.7:8642",
            "127.0.0.1.evil.example",
            "a b",
            &own,
        ] {
            assert_eq!(of(host), 403, "{host}");
        }
        assert_eq!(verdict(&local, Method::GET, "/", &[]), 400);
        assert_eq!(
            verdict(&local, Method::GET, "/", &[("host", "localhost"), ("host", "localhost")]),
            400
        );
        let open = Guard::new("0.0.0.0".parse().unwrap(), 1, Some("t".into()));
        assert_eq!(verdict(&open, Method::GET, "/x?token=t", &[("host", "10.0.0.7:1")]), 200);
        assert_eq!(verdict(&open, Method::GET, "/x?token=t", &[("host", &host::name())]), 200);
        assert_eq!(verdict(&open, Method::GET, "/x?token=t", &[("host", "evil.example:1")]), 403);
    }

    #[test]
    fn other_pages_may_not_post() {
        let guard = Guard::new("127.0.0.1".parse().unwrap(), 8642, None);
        let of = |method: Method, origins: &[&str]| {
            let mut headers = vec![("host", "localhost:8642")];
            headers.extend(origins.iter().map(|o| ("origin", *o)));
            verdict(&guard, method, "/api/uploads", &headers)
        };
        assert_eq!(
            (of(Method::POST, &[]), of(Method::POST, &["http://localhost:8642"])),
            (200, 200)
        );
        for origin in [
            "http://evil.example",
            "null",
            "https://localhost:8642",
            "http://localhost:8643",
            "http://localhost:8642.evil.example",
        ] {
            assert_eq!(of(Method::POST, &[origin]), 403, "{origin}");
        }
        assert_eq!(of(Method::POST, &["http://localhost:8642", "http://evil.example"]), 403);
        let from = |site: &str, path: &str| {
            verdict(&guard, Method::GET, path, &[("host", "localhost"), ("sec-fetch-site", site)])
        };
        assert_eq!(
            (
                from("cross-site", "/api/run"),
                from("cross-site", "/"),
                from("same-origin", "/api/run")
            ),
            (403, 200, 200)
        );
    }

    #[test]
    fn the_token_is_accepted_in_the_url_and_then_in_a_cookie() {
        let token = random_token();
        assert!(token.len() == 32 && token != random_token());
        let guard = Guard::new("10.0.0.7".parse().unwrap(), 80, Some(token.clone()));
        let of = |address: &str, cookie: &str| {
            verdict(&guard, Method::GET, address, &[("host", "10.0.0.7"), ("cookie", cookie)])
        };
        assert_eq!(of(&format!("/?token={token}"), ""), 303);
        assert_eq!(of(&format!("/api/run?a=b&token={token}"), ""), 200);
        assert_eq!(of("/api/run", &format!("other=1; atlas-80={token}")), 200);
        for (address, cookie) in [
            ("/", ""),
            ("/api/run?token=", ""),
            ("/?token=0123", ""),
            ("/", "atlas-80="),
            ("/", &*format!("atlas-81={token}")),
            ("/", &*format!("atlas-80={}", &token[1..])),
            ("/explore.js", "atlas-80"),
        ] {
            assert_eq!(of(address, cookie), 401, "{address} {cookie}");
        }
    }
}
