//! The strings of the program's sources, outside tests.

use std::{fs, path::Path};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Every string literal below `folder`, as the program prints it, apart from placeholders.
pub fn of(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut found) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
                collect(fs::read_to_string(path).unwrap().parse().unwrap(), &mut found);
            }
        }
    }
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<String>) {
    let mut is_test = false;
    for token in tokens {
        match token {
            // What follows `#[cfg(test)]`, up to its block.
            TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket => {
                is_test |= g.to_string().replace(' ', "") == "[cfg(test)]";
                let mut words = g.stream().into_iter().map(|word| word.to_string());
                if words.next().as_deref() != Some("doc") {
                    collect(g.stream(), found);
                }
            }
            TokenTree::Group(g) if is_test && g.delimiter() == Delimiter::Brace => is_test = false,
            TokenTree::Group(g) => collect(g.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                if let Some(text) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
                    found.push(unescaped(text));
                }
            }
            _ => {}
        }
    }
}

/// A backslash at the end of a line drops the blanks that follow it.
fn unescaped(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_string();
    lines
        .fold(first, |text, line| text + line.trim_start())
        .replace("\\n", "\n")
        .replace("\\\"", "\"")
}
