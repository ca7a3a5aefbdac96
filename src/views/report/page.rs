//! Renders the templates into one HTML file.

use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

use crate::base::{Error, Result, progress};

macro_rules! templates {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("templates/", $name)))),*] };
}

/// The page and its parts, which follow each other in this order.
const TEMPLATES: [(&str, &str); 16] = templates![
    "page.html",
    "style.css",
    "page.js",
    "parts.html",
    "glance.html",
    "compare.html",
    "learning.html",
    "classes.html",
    "confusion.html",
    "curves.html",
    "calibration.html",
    "thresholds.html",
    "folds.html",
    "duplicates.html",
    "samples.html",
    "activation_maps.html",
];

/// The page with the fields of `page`.
///
/// # Errors
/// Failed where a template uses a field that does not exist.
pub fn render(page: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(broken)?,
    );
    environment.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    environment.add_filter("percent", |value: f64| format!("{:.1} %", 100.0 * value));
    environment.add_filter("duration", progress::duration);
    environment.add_filter("thousands", thousands);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).map_err(broken)?;
    }
    environment
        .get_template("page.html")
        .and_then(|template| template.render(Serde(page)))
        .map_err(broken)
}

fn broken(e: minijinja::Error) -> Error {
    Error::failed(format!("cannot make the page: {e:#}"))
}

/// `12345` as `12,345`.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|g| std::str::from_utf8(g).expect("digits"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 12_345_678].map(thousands), ["0", "999", "1,000", "12,345,678"]);
    }

    #[test]
    fn the_error_for_a_missing_field_names_the_template_and_its_line() {
        let error = render(&()).unwrap_err().to_string();
        // {{ source }} would be empty.
        assert!(error.contains("page.html:6"), "{error}");
    }
}
