//! The folders of `src/` depend on each other in one direction: each uses only those that stand
//! before it in `src/lib.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders in the order in which `lib.rs` declares them.
fn folders(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// The first name of every `crate::...` path outside comments: `crate::a::b` gives `a`,
/// `crate::{a::b, c}` gives `a` and `c`.
fn used(source: &str) -> Vec<String> {
    let code: Vec<&str> = source.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut names: Vec<String> = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                c if begins && !c.is_whitespace() => {
                    names.push(name(&group[i..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

/// Uses of a later folder, or of something that is no folder, as `FILE: FOLDER uses NAME`.
fn back_edges(folders: &[&str], folder: &str, file: &str, source: &str) -> Vec<String> {
    let place = |name: &str| folders.iter().position(|f| *f == name);
    let own = place(folder);
    used(source)
        .into_iter()
        .filter(|name| place(name).is_none_or(|of| Some(of) > own))
        .map(|name| format!("{file}: {folder} uses {name}"))
        .collect()
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn folders_use_only_folders_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let folders = folders(&lib);
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let folder = file.split('/').next().unwrap().trim_end_matches(".rs");
        if folder != "lib" {
            assert!(folders.contains(&folder), "lib.rs declares no `pub mod {folder};`");
            let source = fs::read_to_string(path).unwrap();
            wrong.extend(back_edges(&folders, folder, file, &source));
        }
    }
    assert!(files.len() > 100, "only {} files were read", files.len());
    assert!(wrong.is_empty(), "folders that use a later one:\n{}", wrong.join("\n"));
}

#[test]
fn a_back_edge_is_found_in_every_form() {
    let folders = ["base", "data", "views"];
    let edges = |source| back_edges(&folders, "data", "data/a.rs", source);
    assert_eq!(edges("use crate::views::report;"), ["data/a.rs: data uses views"]);
    assert_eq!(
        edges("use crate::{\n    base::{Error, Result},\n    data::b,\n    views::report,\n};")
            .len(),
        1
    );
    assert_eq!(edges("fn f() { crate::views::g(crate::base::h()) }").len(), 1);
    assert_eq!(edges("use crate::{Error, base};"), ["data/a.rs: data uses Error"]);
    assert!(edges("// see crate::views\nuse crate::{base, data::x};").is_empty());
}
