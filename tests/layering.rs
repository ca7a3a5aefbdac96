//! The folders of `src/` depend on each other in one direction: each uses only those declared
//! before it in `src/lib.rs`. Inside a folder two files use each other only where ARCHITECTURE.md
//! lists them under "Cycles within a folder". HDF5 files are opened in one file only.

#[path = "layering/modules.rs"]
mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use modules::Modules;

/// Which files (relative to `src/`) each file of the same folder uses.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders in the order in which `lib.rs` declares them.
fn folders(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// Uses of a later folder, or of a name of `lib.rs` that is no folder, as `FILE uses PATH`.
fn back_edges(folders: &[&str], modules: &Modules) -> Vec<String> {
    let place = |folder: &str| folders.iter().position(|f| *f == folder);
    let mut wrong = Vec::new();
    for used in modules.uses() {
        let own = place(&used.module[0]);
        let target = used.target.first().and_then(|folder| place(folder));
        if target.is_none() || target > own {
            wrong.push(format!("{} uses {}", modules.file(used.module), used.path.join("::")));
        }
    }
    wrong
}

/// What the files of each folder use of each other. Re-exporting a child is not a use.
fn edges(modules: &Modules) -> Edges {
    let mut edges = Edges::new();
    for used in modules.uses() {
        let re_export = used.public && used.target.starts_with(used.module);
        if used.target.first() == used.module.first() && used.target != used.module && !re_export {
            edges.entry(modules.file(used.module)).or_default().insert(modules.file(&used.target));
        }
    }
    edges
}

/// Pairs of files that use each other, as `A <-> B`, and the files of longer cycles that remain
/// when the files of each pair count as one, as `A, B, C`.
fn cycles(edges: &Edges) -> BTreeSet<String> {
    let uses = |a: &str, b: &str| edges.get(a).is_some_and(|used| used.contains(b));
    let mut found = BTreeSet::new();
    // Files that use each other are one node of the graph in which longer cycles are looked for.
    let mut node: BTreeMap<&str, &str> = BTreeMap::new();
    for (a, used) in edges {
        node.entry(a).or_insert(a);
        for b in used {
            node.entry(b).or_insert(b);
            if a < b && uses(b, a) {
                found.insert(format!("{a} <-> {b}"));
                let (from, to) = (node[b.as_str()], node[a.as_str()]);
                node.values_mut().filter(|n| **n == from).for_each(|n| *n = to);
            }
        }
    }
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in node.values() {
        let mut open = vec![*start];
        let seen = reached.entry(start).or_default();
        while let Some(at) = open.pop() {
            for (a, used) in edges.iter().filter(|(a, _)| node[a.as_str()] == at) {
                let next = used.iter().map(|b| node[b.as_str()]);
                open.extend(next.filter(|n| *n != node[a.as_str()] && seen.insert(n)));
            }
        }
    }
    for (a, seen) in reached.iter().filter(|(a, seen)| seen.contains(*a)) {
        let in_it = |n: &&str| seen.contains(n) && reached[n].contains(a);
        let circle = node.iter().filter(|(_, n)| in_it(n)).map(|(file, _)| *file);
        let circle: Vec<&str> = circle.collect();
        found.insert(circle.join(", "));
    }
    found
}

/// The lines `- a.rs <-> b.rs: reason` of a page's section "Cycles within a folder".
fn allowed(page: &str) -> BTreeSet<String> {
    page.lines()
        .skip_while(|line| *line != "## Cycles within a folder")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("- "))
        .map(|line| {
            let (pair, reason) = line.split_once(": ").expect("`- a.rs <-> b.rs: reason`");
            assert!(!reason.trim().is_empty(), "{line} gives no reason");
            pair.replace('`', "")
        })
        .collect()
}

fn source() -> Modules {
    let modules = Modules::read(&root().join("src"));
    assert!(modules.len() > 100, "only {} files were read", modules.len());
    modules
}

#[test]
fn folders_use_only_folders_before_them() {
    let (modules, lib) = (source(), fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let folders = folders(&lib);
    for folder in modules.folders() {
        assert!(folders.contains(&folder), "lib.rs declares no `pub mod {folder};`");
    }
    let wrong = back_edges(&folders, &modules);
    assert!(wrong.is_empty(), "folders that use a later one:\n{}", wrong.join("\n"));
}

#[test]
fn files_of_a_folder_use_each_other_only_where_architecture_md_says_so() {
    // Without the page no cycle is allowed.
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap_or_default();
    let (found, listed) = (cycles(&edges(&source())), allowed(&page));
    let lines =
        |set: BTreeSet<&String>| set.into_iter().map(|l| format!("\n  {l}")).collect::<String>();
    assert!(
        found == listed,
        "cycles that ARCHITECTURE.md does not list:{}\nlisted cycles that are gone:{}",
        lines(found.difference(&listed).collect()),
        lines(listed.difference(&found).collect())
    );
}

/// The files that open or make HDF5 files by the library's own means, or import these.
fn hdf5_openers(modules: &Modules) -> BTreeSet<&str> {
    let opens = |path: &[String]| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        // The short ones are of imports: of everything there, or of the module itself.
        matches!(
            path[..],
            ["hdf5"]
                | ["hdf5", "file"]
                | ["hdf5", "File", ..]
                | ["hdf5", "file", "File", ..]
                | [.., "FileBuilder", "new"]
        )
    };
    modules.paths().filter(|(_, path)| opens(path)).map(|(file, _)| file).collect()
}

/// The way through `base/hdf5_file` is the only one, so that no lock is taken.
#[test]
fn hdf5_files_are_opened_in_one_place() {
    let jobs = Modules::read(&root().join("jobs"));
    assert!(jobs.len() > 10, "only {} files were read", jobs.len());
    assert_eq!(hdf5_openers(&source()), BTreeSet::from(["base/hdf5_file.rs"]));
    assert_eq!(hdf5_openers(&jobs), BTreeSet::new());
    let is_found = |source| !hdf5_openers(&example(&[("data/a.rs", source)])).is_empty();
    for source in [
        "fn f() { hdf5::File::open(path) }",
        "fn f() { hdf5::file::File::create(path) }",
        "fn f() { FileBuilder::new() }",
        "fn f() { hdf5::file::FileBuilder::new() }",
        "use hdf5::{Dataset, File};",
        "use hdf5::file::File as Table;",
        "use hdf5::*;",
        "use hdf5::file::{self, FileBuilder};",
        "use hdf5 as h5;",
    ] {
        assert!(is_found(source), "{source}");
    }
    for source in [
        "use hdf5::{Result, types::VarLenUnicode};",
        "fn f() -> hdf5::file::FileBuilder { hdf5_file::options() }",
        "use std::fs::File;\nfn f() { File::open(path) }",
        "#[cfg(test)]\nmod tests { use hdf5::File; }",
    ] {
        assert!(!is_found(source), "{source}");
    }
}

/// `src/` of two folders, `data` before `views`, with these files besides.
fn example(files: &[(&str, &str)]) -> Modules {
    let folders = [("data.rs", "pub mod a;\npub mod b;"), ("views.rs", ""), ("lib.rs", "")];
    Modules::new(folders.iter().chain(files).copied())
}

#[test]
fn a_back_edge_is_found_in_every_form() {
    let found = |source| {
        back_edges(&["base", "data", "views"], &example(&[("base.rs", ""), ("data/a.rs", source)]))
    };
    assert_eq!(found("use crate::views::report;"), ["data/a.rs uses crate::views::report"]);
    for source in [
        "use crate::{\n    base::{Error, Result},\n    data::b,\n    views::report,\n};",
        "fn f() { crate::views::g(crate::base::h()) }",
        "fn f() { json!({\"a\": crate::views::g()}) }",
        "use super::super::views;",
        "use crate::{Error, base};",
        "#[cfg(test)]\nuse crate::views;\nuse crate::views::report;",
    ] {
        assert_eq!(found(source).len(), 1, "{source}: {:?}", found(source));
    }
    for source in [
        "// see crate::views\nuse crate::{base, data::x};",
        "fn f() { \"crate::views\" }",
        "#[cfg(test)]\nmod tests { use crate::views; }",
        "#[cfg(test)]\n#[allow(unused)]\nuse crate::views;",
    ] {
        assert_eq!(found(source), [""; 0], "{source}");
    }
}

#[test]
fn a_cycle_is_found_in_every_form() {
    let found = |files: &[(&str, &str)]| cycles(&edges(&example(files)));
    let pair = |a: &str, b: &str| BTreeSet::from([format!("data/{a} <-> data/{b}")]);
    // Siblings, by absolute and by relative paths.
    let a = ("data/a.rs", "use crate::data::b::{self, B};");
    assert_eq!(found(&[a, ("data/b.rs", "fn f() { super::a::g() }")]), pair("a.rs", "b.rs"));
    assert!(found(&[a, ("data/b.rs", "#[cfg(test)]\nmod t { use super::super::a; }")]).is_empty());
    // A parent that calls its child, which uses the parent's type. Re-exports alone are no cycle,
    // but they do not hide one either.
    let child = ("data/a/c.rs", "use super::A;");
    let calls = ("data/a.rs", "mod c;\npub struct A;\nfn f() { c::g() }");
    assert_eq!(found(&[calls, child]), pair("a.rs", "a/c.rs"));
    assert!(found(&[("data/a.rs", "mod c;\npub use c::C;\npub struct A;"), child]).is_empty());
    let page = ("data/a.rs", "mod c;\nmod d;\npub use self::{c::C, d::D as E};");
    let siblings = [page, ("data/a/c.rs", "use super::E;"), ("data/a/d.rs", "use super::c::C;")];
    assert_eq!(found(&siblings), pair("a/c.rs", "a/d.rs"));
    // Three files in a circle.
    let circle = [
        ("data/a.rs", "use super::b;"),
        ("data/b.rs", "use super::c;"),
        ("data/c.rs", "use super::a;"),
    ];
    let circle = found(&circle);
    assert_eq!(circle, BTreeSet::from(["data/a.rs, data/b.rs, data/c.rs".into()]));
}

#[test]
fn the_list_of_allowed_cycles_is_read_from_its_section() {
    let page = "- x.rs <-> y.rs: no\n## Cycles within a folder\n\nText.\n\n- `a.rs` <-> `b.rs`: \
        why\n- c.rs <-> d.rs: why\n## Other\n- x.rs <-> y.rs: no\n";
    assert_eq!(allowed(page), BTreeSet::from(["a.rs <-> b.rs".into(), "c.rs <-> d.rs".into()]));
}
