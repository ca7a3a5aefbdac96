//! HTTP requests: rate limited per host, along redirects, with credentials for one host only.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Body,
    http::Response,
    tls::{RootCerts, TlsConfig},
};
use url::{Origin, Url};

use super::{attempt_error::AttemptError, certificates, rate_limit::RateLimit, redirect::redirect};
use crate::{
    base::{Error, Result, progress, stop_request::Stop},
    config,
};

const MAX_REDIRECTS: usize = 5;

/// Longest `Retry-After` in seconds that a job waits for.
const MAX_RETRY_AFTER: f64 = 600.0;

/// An `Authorization` header and the only host that may receive it.
pub struct Credentials {
    pub host: Origin,
    pub header: String,
    /// What a 401 and a 403 of this host mean, and what to do.
    pub unauthorized: String,
    pub forbidden: String,
}

/// All connections of a job.
pub struct Client<'a> {
    /// One for each set of trusted certificates.
    agents: Vec<Agent>,
    /// The one that the last server was trusted by.
    first: AtomicUsize,
    rate_limit: RateLimit,
    credentials: Option<Credentials>,
    stop: &'a Stop,
    shut_down: OnceLock<()>,
}

impl<'a> Client<'a> {
    pub fn new(config: &config::Fetch, credentials: Option<Credentials>, stop: &'a Stop) -> Self {
        let agents =
            certificates::trusted().into_iter().map(|roots| agent(config, roots)).collect();
        let rate_limit = RateLimit::new(config.requests_per_second);
        let (first, shut_down) = (AtomicUsize::new(0), OnceLock::new());
        Self { agents, first, rate_limit, credentials, stop, shut_down }
    }

    /// Requests `url` and follows redirects; the answer has the status 200, 206 or 416.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<Body>, AttemptError> {
        let mut url = Url::parse(url).map_err(|e| AttemptError::Refused(format!("{url}: {e}")))?;
        for _ in 0..=MAX_REDIRECTS {
            let host = url.origin();
            while let Err(wait) = self.rate_limit.take_turn(&host) {
                self.pause(wait)?;
            }
            self.check_stop()?;
            let credentials = self.credentials.as_ref().filter(|c| c.host == host);
            let authorization = credentials.map(|c| ("Authorization", &c.header));
            let headers = headers.iter().map(|(name, value)| (*name, value)).chain(authorization);
            let answer = self.call(&url, &headers.collect::<Vec<_>>())?;
            match answer.status().as_u16() {
                200 | 206 | 416 => return Ok(answer),
                status @ (301 | 302 | 303 | 307 | 308) => {
                    let location = header(&answer, "location").ok_or_else(|| {
                        AttemptError::Retry(format!("{status} without an address"))
                    })?;
                    url = redirect(&url, location)?;
                }
                status => return Err(self.status_error(status, &answer, &host, credentials)),
            }
        }
        Err(AttemptError::Refused(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// One request, over the first agent that trusts the server.
    fn call(&self, url: &Url, headers: &[(&str, &String)]) -> Result<Response<Body>, AttemptError> {
        let first = self.first.load(Relaxed);
        let mut why = String::new();
        for at in (0..self.agents.len()).map(|i| (first + i) % self.agents.len()) {
            let request = self.agents[at].get(url.as_str());
            let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
            match request.call() {
                Ok(answer) => {
                    self.first.store(at, Relaxed);
                    return Ok(answer);
                }
                Err(e) => match certificate_fault(&e.to_string()) {
                    Some(fault) if why.is_empty() || why == UNKNOWN_ISSUER => why = fault.into(),
                    Some(_) => {}
                    None => return Err(self.connection_error(&e)),
                },
            }
        }
        Err(untrusted(url, &why).into())
    }

    fn status_error(
        &self,
        status: u16,
        answer: &Response<Body>,
        host: &Origin,
        credentials: Option<&Credentials>,
    ) -> AttemptError {
        let what = format!("the server answers {status}");
        match (status, credentials) {
            (400 | 404 | 410, _) => AttemptError::Missing(what),
            (401, Some(c)) => Error::usage(&c.unauthorized).into(),
            (403, Some(c)) => Error::usage(&c.forbidden).into(),
            (408 | 425 | 429 | 500.., _) => {
                match header(answer, "retry-after").and_then(retry_after) {
                    Some(wait) if wait > MAX_RETRY_AFTER => {
                        let (host, when) = (host.ascii_serialization(), progress::duration(wait));
                        return Error::failed(format!(
                            "{host} answers {status} and asks to come back in {when}; run again \
                             then"
                        ))
                        .into();
                    }
                    Some(wait) => self.rate_limit.hold(host, Duration::from_secs_f64(wait)),
                    None => {}
                }
                AttemptError::Retry(what)
            }
            _ => AttemptError::Refused(what),
        }
    }

    /// Waits; ends early, with an error, if the job is asked to stop.
    pub fn pause(&self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        loop {
            self.check_stop()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                remaining => thread::sleep(remaining.min(Duration::from_millis(50))),
            }
        }
    }

    /// An error if the job was asked to stop.
    pub fn check_stop(&self) -> Result<()> {
        match self.stop.asked() {
            true => Err(Error::Stopped("stopped; run it again to go on".into())),
            false => Ok(()),
        }
    }

    /// If the job was asked to stop, ends the requests that wait for a server.
    pub fn shut_down_on_stop(&self) {
        if self.stop.asked() {
            let shut_down = || self.agents.iter().for_each(|agent| agent.clone().shutdown());
            self.shut_down.get_or_init(shut_down);
        }
    }

    /// Why a connection broke: the job was asked to stop, or else `e`.
    pub fn connection_error(&self, e: &dyn fmt::Display) -> AttemptError {
        match self.check_stop() {
            Err(stopped) => stopped.into(),
            Ok(()) => AttemptError::Retry(e.to_string()),
        }
    }
}

/// Connections that trust the servers that `roots` vouch for.
fn agent(config: &config::Fetch, roots: RootCerts) -> Agent {
    let connect = Some(Duration::from_secs_f64(config.connect_timeout_seconds));
    let read = Some(Duration::from_secs_f64(config.read_timeout_seconds));
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(config.connections)
        .max_idle_connections_per_host(config.connections)
        .timeout_resolve(connect)
        .timeout_connect(connect)
        .timeout_recv_response(read)
        .timeout_per_read(read)
        .timeout_per_write(read)
        .user_agent(concat!("atlas/", env!("CARGO_PKG_VERSION"), " (batch download)"))
        // A range counts the bytes as they are stored.
        .accept_encoding("identity")
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .new_agent()
}

/// What is wrong with the server's certificate, if that broke the connection: rustls's words.
fn certificate_fault(error: &str) -> Option<&str> {
    Some(error.split_once("invalid peer certificate: ")?.1)
}

const UNKNOWN_ISSUER: &str = "UnknownIssuer";

/// The error of a server that no agent trusts. Another attempt would not help.
fn untrusted(url: &Url, why: &str) -> Error {
    let host = url.origin().ascii_serialization();
    let advice = if why.contains("CaUsedAsEndEntity") {
        "the server shows the certificate of an authority as its own; it needs one that the \
         authority has signed"
    } else {
        "where the network has a certificate authority of its own, name the authority's \
         certificate (a PEM file) in the variable SSL_CERT_FILE; otherwise check the address and \
         this machine's clock"
    };
    Error::failed(format!("{host}: the server's certificate is not trusted ({why}); {advice}"))
}

/// A header of an answer, if there is one and it is text.
pub fn header<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The seconds of a `Retry-After`, which is a number of seconds or a date.
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
    fn a_server_that_is_not_trusted_is_told_from_a_broken_connection() {
        let text = "io: invalid peer certificate: UnknownIssuer";
        assert_eq!(certificate_fault(text), Some(UNKNOWN_ISSUER));
        assert_eq!(certificate_fault("io: connection refused"), None);
        let url = Url::parse("https://atlas.example/x.jpg").unwrap();
        let text = untrusted(&url, UNKNOWN_ISSUER).to_string();
        for part in ["https://atlas.example: ", UNKNOWN_ISSUER, "SSL_CERT_FILE"] {
            assert!(text.contains(part), "{text}");
        }
        let why = "Other(OtherError(CaUsedAsEndEntity))";
        let text = untrusted(&url, why).to_string();
        for part in ["https://atlas.example: ", why, "needs one that the authority has signed"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("SSL_CERT_FILE"), "{text}");
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        assert_eq!(retry_after(" 7 "), Some(7.0));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0.0), "in the past");
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
        let date =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&soon).unwrap();
        assert!((80.0..=90.0).contains(&retry_after(&date).unwrap()), "{date}");
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("soon"), None);
    }
}
