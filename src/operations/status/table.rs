//! The status as a table, with a line for each trouble below it.

use std::fmt::{Display, Formatter, Result};

use super::{PipelineStatus, StepStatus, judge::Trouble};
use crate::base::progress::duration;

/// The most lines of troubles.
const MOST_TROUBLES: usize = 20;

impl Display for PipelineStatus {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let run = self.run.as_deref().unwrap_or("none yet");
        writeln!(f, "run {run}, work folder {}", self.work.display())?;
        write!(f, "step            tasks   done  running  waiting  failed  missing  left")?;
        self.steps.iter().try_for_each(|step| write!(f, "\n{step}"))?;
        let omitted = self.troubles.len().saturating_sub(MOST_TROUBLES);
        if omitted > 0 {
            write!(f, "\n{omitted} earlier lines are left out; --json has them")?;
        }
        self.troubles.iter().skip(omitted).try_for_each(|trouble| write!(f, "\n{trouble}"))
    }
}

impl Display for StepStatus {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let number = |n: usize| if n == 0 { "-".to_string() } else { n.to_string() };
        let [done, running, waiting, failed, missing] =
            [self.done, self.running, self.waiting, self.failed, self.missing].map(number);
        let left = self.left_seconds.map_or(String::new(), duration);
        write!(
            f,
            "{:<14}{:>7}{done:>7}{running:>9}{waiting:>9}{failed:>8}{missing:>9}  {left}{}",
            self.name.to_string(),
            self.tasks,
            self.reason
        )
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} task {}: {}", self.step, self.task, self.what)?;
        if let Some(began) = &self.began {
            write!(f, ", began {} on {}", began.time, began.host)?;
            if let Some(log) = &began.log {
                write!(f, "; log: {}", log.display())?;
            }
        }
        f.write_str(if self.done_since { "; done since" } else { "" })
    }
}
