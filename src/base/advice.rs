//! Commands that messages propose. A message names the job that mends a fault, in backticks, such
//! as `` `atlas split` ``, with what this job needs besides; [`complete`] adds the options that the
//! program was started with and that the job needs, too. It is called where text leaves it.

use std::{collections::BTreeMap, sync::OnceLock};

/// An option of the command line with its value, such as `("--run", "r")`.
pub type GivenOption = (String, String);

/// By job (`split`, `fetch kaggle`), the options to repeat.
static GIVEN: OnceLock<BTreeMap<String, Vec<GivenOption>>> = OnceLock::new();

/// From now on [`complete`] adds these options to each job. The first call counts.
pub fn repeat(options: BTreeMap<String, Vec<GivenOption>>) {
    let _ = GIVEN.set(options);
}

/// `text`, with every command of this program in it complete.
pub fn complete(text: impl ToString) -> String {
    let text = text.to_string();
    match GIVEN.get() {
        Some(given) if text.contains(COMMAND) => completed(&text, given),
        _ => text,
    }
}

/// How a command begins in a message.
const COMMAND: &str = "`atlas ";

fn completed(text: &str, given: &BTreeMap<String, Vec<GivenOption>>) -> String {
    let mut parts = text.split(COMMAND);
    let mut out = String::from(parts.next().unwrap_or_default());
    for part in parts {
        out += COMMAND;
        // A name in backticks that wraps a command would be no command.
        let (command, rest) = part.split_once('`').unwrap_or((part, ""));
        out += command;
        let options = given.iter().filter(|(job, _)| is_of(command, job)).flat_map(|(_, o)| o);
        for (option, value) in options.filter(|option| !has(command, option)) {
            out += &match value.starts_with('-') {
                true => format!(" {option}={}", quoted(value)),
                false => format!(" {option} {}", quoted(value)),
            };
        }
        if part.len() > command.len() {
            out.push('`');
        }
        out += rest;
    }
    out
}

fn is_of(command: &str, job: &str) -> bool {
    command.strip_prefix(job).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Whether the command has this option; of those that set a key, with the same key.
fn has(command: &str, (option, value): &GivenOption) -> bool {
    let mut words = command.split([' ', '=']).skip_while(|word| word != option);
    match value.split_once('=').filter(|_| option == "--set") {
        None => words.next().is_some(),
        Some((key, _)) => command.split([' ', '=', '\'']).any(|word| word == key),
    }
}

/// `value` as a word for a shell.
pub fn quoted(value: impl ToString) -> String {
    let value = value.to_string();
    let plain = |c: char| c.is_alphanumeric() || "_./=:,+@%-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(options: &[(&str, &str)], text: &str) -> String {
        let options: Vec<_> = options.iter().map(|(o, v)| (o.to_string(), v.to_string())).collect();
        let of_split = options.iter().filter(|(o, _)| o != "--run").cloned().collect();
        let jobs = [("split", of_split), ("submit", options.clone()), ("fetch kaggle", options)];
        completed(text, &jobs.map(|(job, options)| (job.into(), options)).into())
    }

    #[test]
    fn a_command_repeats_the_options_that_its_job_takes() {
        let given = [("--config", "a b.toml"), ("--set", "dedup.radius=4"), ("--run", "-r")];
        let options = "--config 'a b.toml' --set dedup.radius=4";
        for (text, expected) in [
            ("x; run `atlas split` again", format!("x; run `atlas split {options}` again")),
            ("`atlas submit` and `x`", format!("`atlas submit {options} --run=-r` and `x`")),
            ("`atlas fetch kaggle`", format!("`atlas fetch kaggle {options} --run=-r`")),
            ("`atlas man`, `atlas splits`", "`atlas man`, `atlas splits`".into()),
            ("no command", "no command".into()),
        ] {
            assert_eq!(with(&given, text), expected);
        }
    }

    #[test]
    fn what_the_message_gives_itself_is_not_repeated() {
        let given = [("--config", "a.toml"), ("--set", "dedup.radius=4"), ("--run", "r")];
        let text = "`atlas submit --run s --set dedup.radius=2`";
        assert_eq!(
            with(&given, text),
            "`atlas submit --run s --set dedup.radius=2 --config a.toml`"
        );
        let text = "`atlas submit --set 'dedup.radius=2' --config=b`";
        assert_eq!(with(&given, text), "`atlas submit --set 'dedup.radius=2' --config=b --run r`");
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for word in ["plain/a-1.toml", "", "with blank", "it's", "$HOME `x` \"y\" *"] {
            let out = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), word);
        }
    }
}
