//! Looks at this machine, allocation and container before a job does: a list of checks, each with
//! what was found and, where it is not well, its fix. As several ranks it looks at all of them, and
//! rank 0 has the list.

use std::{sync::mpsc, thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Error, Result},
    config::{self, Backend, Config},
    distributed::{self, World},
};

mod files;
mod gpus;
mod limits;
mod ranks;
mod slurm;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    #[serde(rename = "ok")]
    Ok,
    /// Works, but slower or not for everything.
    #[serde(rename = "warning")]
    Warning,
    #[serde(rename = "FAIL")]
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub state: State,
    pub found: String,
    /// What to do, unless all is well.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), fix: None }
    }

    fn warning(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Warning,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

/// All checks, in the order in which a person reads them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
    /// Nothing failed.
    pub ok: bool,
}

/// Columns of a terminal or a log.
const WIDTH: usize = 100;

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|c| c.state < State::Fail);
        Self { checks, ok }
    }

    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|c| c.state == State::Fail).map(|c| c.name.as_str()).collect()
    }
}

/// A table of 100 columns.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widest = self.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let start = widest + 11;
        for check in &self.checks {
            let fix = check.fix.iter().map(|fix| format!("fix: {fix}"));
            let lines = [check.found.clone()]
                .into_iter()
                .chain(fix)
                .flat_map(|text| wrap(&text, WIDTH - start));
            for (i, line) in lines.enumerate() {
                let (name, state) =
                    if i == 0 { (check.name.as_str(), check.state.name()) } else { ("", "") };
                writeln!(f, "{name:widest$}  {state:7}  {line}")?;
            }
        }
        let count = |state| self.checks.iter().filter(|c| c.state == state).count();
        write!(
            f,
            "{} ok, {} warnings, {} failed",
            count(State::Ok),
            count(State::Warning),
            count(State::Fail)
        )
    }
}

/// `text` in lines of at most `width` columns; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

/// How long the start of MPI may take, and after it each rank's look, which is bounded below that.
const START_SECONDS: f64 = 120.0;

/// How long a file system and a driver may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
const GPU_ANSWER: Duration = Duration::from_secs(60);

/// Looks at everything; collective where ranks found each other, who then form the returned world.
/// Only one of all tasks has a report, also where they did not.
///
/// # Errors
/// Where the ranks lose each other.
pub fn examine(config: &Config) -> Result<(Option<Report>, Option<&'static World>)> {
    // NCCL is not started, and a machine without the GPU that it needs is no reason to end here.
    let (start_timeout_seconds, timeout_seconds) = (START_SECONDS, START_SECONDS);
    let keys = config::Comm {
        backend: Backend::Mpi,
        start_timeout_seconds,
        timeout_seconds,
        ..config.comm.clone()
    };
    match distributed::start(&keys) {
        Ok(world) => {
            let text =
                serde_json::to_string(&ranks::Here::look(config, world)).expect("plain data");
            let all = world.gather_text(&text)?;
            if world.rank() > 0 {
                return Ok((None, Some(world)));
            }
            let all: Vec<ranks::Here> =
                all.iter().map(|text| serde_json::from_str(text).expect("as written")).collect();
            Ok((Some(Report::new(ranks::together(&all))), Some(world)))
        }
        Err(e @ Error::Usage(_)) => {
            let report = (distributed::launched_rank() == 0).then(|| {
                let checks = [ranks::apart(&e)].into_iter().chain(here(config, &World::alone()));
                Report::new(checks.collect())
            });
            Ok((report, None))
        }
        Err(e) => Err(e),
    }
}

/// The checks of this process and, from the first one there, of its machine.
fn here(config: &Config, world: &World) -> Vec<Check> {
    let backend = config.comm.backend;
    let mut checks = gpus::checks(backend, world.size(), world.local_rank);
    checks.extend(limits::checks(config, world, gpus::are_used(backend)));
    checks.extend([slurm::container(), slurm::job()]);
    if world.local_rank == 0 {
        checks.extend(files::checks(config));
    }
    checks
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What `work` answers in time; it is left to itself where it does not.
fn within<T: Send + 'static>(
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
    fn the_table_keeps_to_its_width() {
        let long = "word ".repeat(60);
        let checks =
            vec![Check::ok("MPI", "fine"), Check::fail("a folder", long.trim(), "repair it")];
        let report = Report::new(checks);
        let text = report.to_string();
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
        assert!(
            text.starts_with("MPI       ok       fine\na folder  FAIL     word word"),
            "{text}"
        );
        assert!(
            text.ends_with("\n                   fix: repair it\n1 ok, 0 warnings, 1 failed"),
            "{text}"
        );
        assert_eq!((report.ok, report.failed()), (false, vec!["a folder"]));
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(9), || 3), Some(3));
        assert_eq!(
            within(Duration::from_millis(1), || thread::sleep(Duration::from_secs(9))),
            None
        );
    }
}
