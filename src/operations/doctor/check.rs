//! One check, and what the checks share.

use std::{sync::mpsc, thread, time::Duration};

use serde::{Deserialize, Serialize};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CheckState {
    #[serde(rename = "ok")]
    Ok,
    /// Works, but more slowly or not in all cases.
    #[serde(rename = "warning")]
    Warning,
    #[serde(rename = "FAIL")]
    Fail,
}

impl CheckState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fail => "FAIL",
        }
    }
}

/// What was checked, and the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub state: CheckState,
    pub found: String,
    /// What to do about it; `None` where the state is `Ok`.
    pub fix: Option<String>,
}

impl Check {
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: CheckState::Ok, found: found.into(), fix: None }
    }

    pub(super) fn warning(
        name: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: CheckState::Warning, fix: Some(fix.into()), ..Self::ok(name, found) }
    }

    pub(super) fn fail(
        name: impl Into<String>,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: CheckState::Fail, fix: Some(fix.into()), ..Self::ok(name, found) }
    }
}

/// How long a file system may take to answer.
pub(super) const FILE_SYSTEM_TIMEOUT: Duration = Duration::from_secs(10);

/// The value of an environment variable, unless it is empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The result of `work`, or `None` where it takes longer than `limit`; its thread is then
/// abandoned.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (to, from) = mpsc::channel();
    thread::spawn(move || to.send(work()));
    from.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_the_limit_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(9), || 3), Some(3));
        assert_eq!(
            within(Duration::from_millis(1), || thread::sleep(Duration::from_secs(9))),
            None
        );
    }
}
