//! Requests: how many and how fast per host, along redirects, with credentials for one host only.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use ureq::{Agent, Body, http::Response};

use super::Failure;
use crate::{
    base::{Error, stop::Stop},
    config::Fetch,
};

const REDIRECTS: usize = 5;

/// Longest `Retry-After` in seconds that a job waits for.
const PATIENCE: f64 = 600.0;

/// An `Authorization` header and where it may go.
pub struct Credentials {
    /// The address whose host gets it, and no other.
    pub url: String,
    pub header: String,
    /// What a 401 and a 403 of this host mean, and what to do.
    pub unauthorized: String,
    pub forbidden: String,
}

/// All connections of a job.
pub struct Client<'a> {
    agent: Agent,
    interval: Duration,
    /// When the next request to a host may leave.
    turns: Mutex<HashMap<String, Instant>>,
    credentials: Option<Credentials>,
    stop: &'a Stop,
    shut: OnceLock<()>,
}

impl<'a> Client<'a> {
    pub fn new(config: &Fetch, credentials: Option<Credentials>, stop: &'a Stop) -> Self {
        let (connect, read) =
            (seconds(config.connect_timeout_seconds), seconds(config.read_timeout_seconds));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(config.connections)
            .max_idle_connections_per_host(config.connections)
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_recv_response(Some(read))
            .timeout_per_read(Some(read))
            .timeout_per_write(Some(read))
            .user_agent(concat!("atlas/", env!("CARGO_PKG_VERSION"), " (batch download)"))
            // A range is one of the bytes as they are stored.
            .accept_encoding("identity")
            .build()
            .new_agent();
        let interval = seconds(1.0 / config.requests_per_second);
        Self { agent, interval, turns: Mutex::default(), credentials, stop, shut: OnceLock::new() }
    }

    /// Asks for `url` and follows redirects; the answer is a 200, 206 or 416.
    pub(super) fn get(
        &self,
        url: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, Failure> {
        let mut at = url.to_string();
        for _ in 0..=REDIRECTS {
            let host = origin(&at);
            self.turn(host)?;
            let ours = self.credentials.as_ref().filter(|c| origin(&c.url) == host);
            let mut request = self.agent.get(&at);
            for (name, value) in headers
                .iter()
                .map(|(n, v)| (*n, v))
                .chain(ours.map(|c| ("Authorization", &c.header)))
            {
                request = request.header(name, value);
            }
            let answer = request.call().map_err(|e| self.failure(&e))?;
            let status = answer.status().as_u16();
            let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
            match (status, ours) {
                (200 | 206 | 416, _) => return Ok(answer),
                (301 | 302 | 303 | 307 | 308, _) => {
                    let to = header("location")
                        .ok_or_else(|| Failure::Again(format!("{status} without an address")))?;
                    at = redirect(&at, to)?;
                }
                (400 | 404 | 410, _) => {
                    return Err(Failure::Missing(format!("the server answers {status}")));
                }
                (401, Some(c)) => return Err(Error::usage(&c.unauthorized).into()),
                (403, Some(c)) => return Err(Error::usage(&c.forbidden).into()),
                (408 | 425 | 429 | 500.., _) => {
                    if let Some(wait) = header("retry-after").and_then(retry_after) {
                        if wait > PATIENCE {
                            let when = crate::base::progress::duration(wait);
                            return Err(Error::failed(format!(
                                "{host} answers {status} and asks to come \
                                    back in {when}; run again then"
                            ))
                            .into());
                        }
                        self.hold(host, seconds(wait));
                    }
                    return Err(Failure::Again(format!("the server answers {status}")));
                }
                _ => return Err(Failure::Refused(format!("the server answers {status}"))),
            }
        }
        Err(Failure::Refused(format!("more than {REDIRECTS} redirects")))
    }

    /// Waits, unless the job is asked to stop.
    pub(super) fn pause(&self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        loop {
            self.go_on()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                left => thread::sleep(left.min(Duration::from_millis(50))),
            }
        }
    }

    /// An error where the job is asked to stop.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        match self.stop.asked() {
            true => Err(Error::Stopped("stopped; run it again to go on".into()).into()),
            false => Ok(()),
        }
    }

    /// Whether the job was asked to stop; then also ends what hangs in a connection.
    pub(super) fn stopping(&self) -> bool {
        if self.stop.asked() {
            self.shut.get_or_init(|| self.agent.clone().shutdown());
        }
        self.stop.asked()
    }

    /// What a broken connection means.
    pub(super) fn failure(&self, e: &dyn std::fmt::Display) -> Failure {
        match self.go_on() {
            Err(stopped) => stopped,
            Ok(()) => Failure::Again(e.to_string()),
        }
    }

    /// Waits until a request to `host` may leave.
    fn turn(&self, host: &str) -> Result<(), Failure> {
        loop {
            let wait = {
                let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
                let (now, next) =
                    (Instant::now(), turns.entry(host.into()).or_insert_with(Instant::now));
                if *next <= now {
                    *next = now + self.interval;
                    break;
                }
                *next - now
            };
            self.pause(wait)?;
        }
        self.go_on()
    }

    /// No request to `host` leaves for this long.
    fn hold(&self, host: &str, wait: Duration) {
        let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
        let next = turns.entry(host.into()).or_insert_with(Instant::now);
        *next = (*next).max(Instant::now() + wait);
    }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// `scheme://host[:port]` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |i| i + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |i| &url[..host + i])
}

/// Whether what is sent to this address can be read on the way.
pub(super) fn is_open(url: &str) -> bool {
    let host = origin(url).strip_prefix("http://");
    host.is_some_and(|h| {
        // `localhost:x@host` is a user at another host.
        h.contains('@')
            || !["localhost", "127.0.0.1", "[::1]"]
                .iter()
                .any(|l| h.strip_prefix(l).is_some_and(|p| p.is_empty() || p.starts_with(':')))
    })
}

/// Where `location` in an answer of `url` leads.
fn redirect(url: &str, location: &str) -> Result<String, Failure> {
    let origin = origin(url);
    let to = match location {
        l if l.contains("://") && !l.starts_with(['/', '?']) => l.to_string(),
        l if l.starts_with("//") => format!("{}:{l}", origin.split(':').next().unwrap_or("https")),
        l if l.starts_with('/') => format!("{origin}{l}"),
        l => {
            let path = url[origin.len()..].split(['?', '#']).next().unwrap_or("");
            format!("{origin}{}/{l}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
        }
    };
    if !to.starts_with("http://") && !to.starts_with("https://") {
        return Err(Failure::Refused("a redirect to something else than http".into()));
    }
    if self::origin(&to).contains('@') {
        return Err(Failure::Refused("a redirect to an address with a user's name".into()));
    }
    if url.starts_with("https://") && is_open(&to) {
        return Err(Failure::Refused(format!(
            "a redirect from https to http ({})",
            self::origin(&to)
        )));
    }
    Ok(to)
}

/// Seconds that a `Retry-After` asks for: a number of them, or a date.
fn retry_after(text: &str) -> Option<f64> {
    let text = text.trim();
    let until =
        |date: jiff::Zoned| date.timestamp().duration_since(jiff::Timestamp::now()).as_secs_f64();
    let wait = text
        .parse::<u32>()
        .map(f64::from)
        .ok()
        .or_else(|| jiff::fmt::rfc2822::parse(text).ok().map(until))?;
    Some(wait.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(" 7 "), Some(7.0));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0.0), "over");
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
        let date =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
        assert!((80.0..=90.0).contains(&retry_after(&date).unwrap()), "{date}");
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn redirects_lead_somewhere_safe() {
        let to = |from, location| redirect(from, location).map_err(|f| f.to_string());
        assert_eq!(to("https://a/x/y?q", "https://b/z").unwrap(), "https://b/z");
        assert_eq!(to("https://a/x/y?q", "/z").unwrap(), "https://a/z");
        assert_eq!(to("https://a/x/y?u=p/q", "z").unwrap(), "https://a/x/z");
        assert_eq!(to("https://a", "z").unwrap(), "https://a/z");
        assert_eq!(to("https://a/x", "//b/z").unwrap(), "https://b/z");
        assert_eq!(to("https://a/x", "/z?back=http://b").unwrap(), "https://a/z?back=http://b");
        assert_eq!(to("http://a/x", "http://b/").unwrap(), "http://b/");
        assert_eq!(to("https://a/x", "http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080/");
        assert!(to("https://a/x", "http://b/").is_err(), "credentials and data stay encrypted");
        assert!(to("https://a/x", "//b/z").is_ok() && to("https://a/x", "ftp://b/").is_err());
        assert!(
            to("https://a/x", "https://u@b/").is_err() && is_open("http://localhost:x@evil.org/")
        );
        assert!(is_open("http://localhost.evil.org/") && !is_open("http://localhost:1/"));
    }
}
