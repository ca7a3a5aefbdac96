//! All checks as a table.

use serde::Serialize;

use super::check::{Check, CheckState};

/// All checks, in the order in which a person reads them.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
    /// No check failed.
    pub ok: bool,
}

/// Columns of the table.
const WIDTH: usize = 100;

impl DoctorReport {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|c| c.state < CheckState::Fail);
        Self { checks, ok }
    }

    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.checks
            .iter()
            .filter(|c| c.state == CheckState::Fail)
            .map(|c| c.name.as_str())
            .collect()
    }
}

/// A table of 100 columns.
impl std::fmt::Display for DoctorReport {
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
            count(CheckState::Ok),
            count(CheckState::Warning),
            count(CheckState::Fail)
        )
    }
}

/// `text` in lines of at most `width` columns; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_at_most_its_width() {
        let long = "word ".repeat(60);
        let checks =
            vec![Check::ok("MPI", "all is well"), Check::fail("a folder", long.trim(), "fix it")];
        let report = DoctorReport::new(checks);
        let text = report.to_string();
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
        assert!(
            text.starts_with("MPI       ok       all is well\na folder  FAIL     word word"),
            "{text}"
        );
        assert!(
            text.ends_with("\n                   fix: fix it\n1 ok, 0 warnings, 1 failed"),
            "{text}"
        );
        assert_eq!((report.ok, report.failed()), (false, vec!["a folder"]));
    }
}
