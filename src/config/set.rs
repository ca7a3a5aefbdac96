//! One `--set key=value` of the command line.

use super::{
    Config,
    explain::{explain, must_be_shallow},
};

/// `key=value` into the table; an empty value unsets the key. The value is a string where
/// the key takes one (a folder may be called 2024) or where it is no TOML.
pub(super) fn apply(table: &mut toml::Table, set: &str) -> Result<(), String> {
    let (key, value) =
        set.split_once('=').ok_or("expected key=value, such as --set train.epochs=2")?;
    let (key, value) = (key.trim(), value.trim());
    must_be_shallow(set)?;
    let mut put = |value: toml::Value| {
        let (section, name) = place(table, key)?;
        section.insert(name.into(), value);
        types(table)
    };
    let as_text = put(value.into());
    if value.is_empty() {
        if let Err(e) = as_text
            && e.starts_with("unknown key")
        {
            return Err(e);
        }
        let (section, name) = place(table, key)?;
        section.remove(name);
        return types(table);
    }
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok();
    let Some(parsed) = parsed.filter(|t| t.len() == 1).and_then(|mut t| t.remove("v")) else {
        return as_text;
    };
    if parsed.is_table() {
        return Err(format!("one value is expected; set the keys of {key} one by one"));
    }
    match as_text {
        Ok(()) if !parsed.is_str() => Ok(()),
        // `parsed` has lost the quotes.
        Ok(()) => put(parsed),
        // Of a key that takes one of some words, it names them.
        Err(e) if e.starts_with("unknown value") && !parsed.is_str() => Err(e),
        Err(_) => put(parsed),
    }
}

/// The section of a dotted key, and its name there.
fn place<'a, 'k>(
    table: &'a mut toml::Table,
    key: &'k str,
) -> Result<(&'a mut toml::Table, &'k str), String> {
    let (sections, name) = key.rsplit_once('.').unwrap_or(("", key));
    if name.is_empty() {
        return Err("the key is empty".into());
    }
    let mut at = table;
    for part in sections.split('.').filter(|part| !part.is_empty()) {
        let section = at.entry(part).or_insert_with(|| toml::Table::new().into());
        at = section.as_table_mut().ok_or(format!("`{part}` is a value, not a section"))?;
    }
    Ok((at, name))
}

/// An error where a key is unknown or its value has the wrong type.
fn types(table: &toml::Table) -> Result<(), String> {
    table.clone().try_into::<Config>().map(drop).map_err(|e| explain(e.message()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn keys_of_any_depth_are_refused() {
        let deep = "a.".repeat(60_000);
        for set in [format!("{deep}b=1"), format!("train={{{deep}b=1}}")] {
            assert_eq!(Config::load(None, &[set]).unwrap_err().exit_code(), 2);
        }
        assert!(Config::parse(&format!("{deep}b=1")).is_err());
        assert!(Config::parse(&format!("[{deep}b]")).is_err());
    }

    #[test]
    fn sets_are_toml_or_bare_strings_and_empty_unsets() {
        let sets =
            ["train.epochs=2", "model.arch=tiny", "data.kaggle=/a b", "threads=3", "threads="]
                .map(String::from);
        let config = Config::load(None, &sets).unwrap();
        assert_eq!(
            (config.train.epochs, config.model.arch.as_str(), config.threads),
            (2, "tiny", None)
        );
        assert_eq!(config.data.kaggle.as_deref(), Some(Path::new("/a b")));
    }

    #[test]
    fn keys_of_text_take_what_looks_like_another_type() {
        let here = std::env::current_dir().unwrap();
        let of = |value: &str| {
            let set = format!("data.kaggle={value}");
            let kaggle = Config::load(None, &[set]).unwrap().data.kaggle.unwrap();
            kaggle.strip_prefix(&here).unwrap().to_str().unwrap().to_string()
        };
        for value in [
            "2024",
            "007",
            "0x1",
            "1e5",
            "1_000",
            "+1",
            "-1",
            "nan",
            "inf",
            "true",
            "2024-01-31",
            "12:30:00",
            "[1]",
            "[a]",
            "a=b",
            "a = b",
            "=",
            "a b",
            "a #b",
            "2024 #2",
            "\u{e4}\u{1f9ec}",
            "it's",
            "\"",
            "a\\b",
            "#",
            "c$/d",
            "a~",
        ] {
            assert_eq!(of(value), value);
        }
        for (value, want) in [(" a ", "a"), ("\" a \"", " a "), ("'2024'", "2024"), ("a/", "a")] {
            assert_eq!(of(value), want, "{value}");
        }
        let config = Config::load(None, &["train.epochs = 0x10".into(), "data.kaggle=".into()]);
        let config = config.unwrap();
        assert_eq!((config.train.epochs, config.data.kaggle), (16, None));
    }
}
