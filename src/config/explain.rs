//! What is wrong in a configuration, in our words instead of serde's.

use std::path::Path;

use crate::base::{Error, near_miss::nearest};

/// A TOML error as one line with file and line number.
pub(super) fn located(path: &Path, text: &str, e: &toml::de::Error) -> Error {
    let line = |start: usize| text[..start.min(text.len())].matches('\n').count() + 1;
    let line = e.span().map_or(String::new(), |span| format!(", line {}", line(span.start)));
    Error::usage(format!("{}{line}: {}", path.display(), explain(e.message())))
}

/// The TOML parser goes into the parts of a dotted key by recursion, and would exhaust the stack.
pub(super) fn must_be_shallow(text: &str) -> Result<(), String> {
    let line = text.lines().position(|line| line.matches('.').count() > 500);
    line.map_or(Ok(()), |n| Err(format!("more than 500 dots in line {}: no key is so long", n + 1)))
}

/// serde's message, with the nearest key named where one is misspelt.
pub(super) fn explain(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    let mut quoted = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        let message = message
            .replace("invalid type:", "wrong type:")
            .replace("invalid value:", "wrong value:");
        let (start, wanted) = message.rsplit_once("expected ").unwrap_or((&message, ""));
        return match wanted {
            "usize" | "u8" | "u32" | "u64" => format!("{start}expected a whole number"),
            "f32" | "f64" => format!("{start}expected a number"),
            "path string" | "a string" => format!("{start}expected text in quotes"),
            wanted if wanted.starts_with("struct ") => {
                format!("{start}expected a section, whose keys are set one by one")
            }
            "string only" => "wrong type: expected one of the key's words; `atlas config` prints \
                the one in force"
                .into(),
            _ => message,
        };
    }
    let (Some(wrong), candidates) = (quoted.next(), quoted) else { return message.into() };
    let candidates: Vec<&str> = candidates.collect();
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    match nearest(wrong, candidates.iter().copied()) {
        Some(near) => format!("unknown {what} `{wrong}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{wrong}`; expected one of {}", candidates.join(", ")),
    }
}
