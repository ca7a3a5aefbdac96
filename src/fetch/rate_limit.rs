//! How often requests may be sent to a host.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use url::Origin;

pub struct RateLimit {
    interval: Duration,
    /// When the next request to a host may be sent.
    next: Mutex<HashMap<Origin, Instant>>,
}

impl RateLimit {
    pub fn new(requests_per_second: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / requests_per_second);
        Self { interval, next: Mutex::default() }
    }

    /// Takes the turn for a request to `host`; where it is too early, returns how long to wait
    /// before the next try.
    pub fn take_turn(&self, host: &Origin) -> Result<(), Duration> {
        self.with_next(host, |next, now| {
            if *next > now {
                return Err(*next - now);
            }
            *next = now + self.interval;
            Ok(())
        })
    }

    /// Allows no request to `host` for this long.
    pub fn hold(&self, host: &Origin, wait: Duration) {
        self.with_next(host, |next, now| *next = (*next).max(now + wait));
    }

    fn with_next<T>(&self, host: &Origin, change: impl FnOnce(&mut Instant, Instant) -> T) -> T {
        let now = Instant::now();
        let mut all = self.next.lock().unwrap_or_else(|e| e.into_inner());
        change(all.entry(host.clone()).or_insert(now), now)
    }
}
