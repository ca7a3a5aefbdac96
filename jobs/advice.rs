//! What the commands that messages propose repeat of this process's own command line.

use std::{collections::BTreeMap, path::PathBuf};

use atlas::base::advice::{self, GivenOption};
use clap::{ArgMatches, Command};

/// Lets the commands in messages repeat `--config`, `--set` and `--run` where their jobs take them.
pub fn repeat(program: &Command, parsed: &ArgMatches) {
    let given = given(parsed);
    if given.is_empty() {
        return;
    }
    let mut jobs = BTreeMap::new();
    for job in program.get_subcommands() {
        jobs.insert(job.get_name().to_string(), taken_by(job, &given));
        for sub in job.get_subcommands() {
            jobs.insert(format!("{} {}", job.get_name(), sub.get_name()), taken_by(sub, &given));
        }
    }
    advice::repeat(jobs);
}

/// The options of the innermost subcommand.
fn given(mut parsed: &ArgMatches) -> Vec<GivenOption> {
    while let Some((_, inner)) = parsed.subcommand() {
        parsed = inner;
    }
    let config = parsed.try_get_one::<PathBuf>("config").ok().flatten();
    let sets = parsed.try_get_many::<String>("sets").ok().flatten().unwrap_or_default();
    let run = parsed.try_get_one::<String>("run").ok().flatten();
    let config = config.map(|file| ("--config".into(), file.display().to_string()));
    let sets = sets.map(|set| ("--set".into(), set.clone()));
    config.into_iter().chain(sets).chain(run.map(|run| ("--run".into(), run.clone()))).collect()
}

fn taken_by(job: &Command, given: &[GivenOption]) -> Vec<GivenOption> {
    let takes =
        |option: &str| job.get_arguments().any(|a| a.get_long() == option.strip_prefix("--"));
    given.iter().filter(|(option, _)| takes(option)).cloned().collect()
}
