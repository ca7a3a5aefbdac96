//! Which module of a crate uses which, from the tokens of its sources: comments, strings and
//! `#[cfg(test)]` items do not count, what stands inside macro calls does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path as the source writes it, such as `["super", "b", "f"]`.
struct Reference {
    path: Vec<String>,
    /// The name that a `use` binds it to.
    binds: Option<String>,
    /// Whether that `use` is `pub`.
    public: bool,
}

/// A module that refers to another one of the crate, or to itself.
pub struct Use<'a> {
    pub module: &'a [String],
    pub path: &'a [String],
    /// The module in whose file the path ends.
    pub target: Vec<String>,
    pub public: bool,
}

/// The modules of a crate by their path, such as `["data", "dedup"]`; `lib.rs` is `[]`.
pub struct Modules(BTreeMap<Vec<String>, (String, Vec<Reference>)>);

impl Modules {
    /// All files below `src`.
    pub fn read(src: &Path) -> Self {
        let (mut folders, mut files) = (vec![src.to_path_buf()], Vec::new());
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_string();
                    files.push((name, fs::read_to_string(path).unwrap()));
                }
            }
        }
        Self::new(files.iter().map(|(name, source)| (name.as_str(), source.as_str())))
    }

    /// `(name, source)` of each file, names relative to `src/`.
    pub fn new<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut modules, mut tests) = (BTreeMap::new(), BTreeSet::new());
        for (name, source) in files {
            let path = name.strip_suffix(".rs").unwrap();
            let module: Vec<String> = match path {
                "lib" => Vec::new(),
                _ => path.split('/').map(String::from).collect(),
            };
            let tokens: TokenStream = source.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut scan = Scan::default();
            scan.items(tokens);
            tests.extend(scan.test_modules.into_iter().map(|m| [&module[..], &[m]].concat()));
            modules.insert(module, (name.to_string(), scan.references));
        }
        modules.retain(|module, _| !tests.contains(module));
        Self(modules)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter(|m| m.len() == 1).map(|m| m[0].as_str())
    }

    pub fn file(&self, module: &[String]) -> String {
        self.0[module].0.clone()
    }

    /// The paths that each file writes, also those of other crates.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .values()
            .flat_map(|(file, found)| found.iter().map(move |r| (file.as_str(), &r.path[..])))
    }

    /// Everything that the modules below `lib.rs` use of this crate.
    pub fn uses(&self) -> impl Iterator<Item = Use<'_>> {
        let below_lib = self.0.iter().filter(|(module, _)| !module.is_empty());
        let all = below_lib.flat_map(|(module, (_, found))| found.iter().map(move |f| (module, f)));
        all.filter_map(|(module, reference)| {
            let (path, public) = (&reference.path[..], reference.public);
            let target = self.target(module, path, 0)?;
            Some(Use { module, path, target, public })
        })
    }

    /// The module in whose file `path`, written in `module`, ends; re-exports are followed. `None`
    /// for paths of other crates and of names that `module` imports.
    fn target(&self, module: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let is_module = |at: &[String], next: &String| {
            self.0.contains_key(&[at, std::slice::from_ref(next)].concat())
        };
        let ups = path.iter().take_while(|name| *name == "super").count();
        let (mut at, mut rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.to_vec(), &path[1..]),
            "super" => (module[..module.len() - ups].to_vec(), &path[ups..]),
            _ if is_module(module, &path[0]) => (module.to_vec(), path),
            _ => return None,
        };
        while let [next, after @ ..] = rest {
            if is_module(&at, next) {
                at.push(next.clone());
            } else if let Some(bound) =
                self.0[&at].1.iter().find(|r| r.binds.as_ref() == Some(next))
                && depth < 5
            {
                return self.target(&at, &[&bound.path[..], after].concat(), depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(at)
    }
}

#[derive(Default)]
struct Scan {
    references: Vec<Reference>,
    /// Names of `#[cfg(test)] mod NAME;`.
    test_modules: Vec<String>,
}

fn is(token: Option<&TokenTree>, punct: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == punct)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

impl Scan {
    fn items(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut i = 0;
        while i < tokens.len() {
            if is(tokens.get(i), '#') && tokens.get(i + 1).is_some_and(is_cfg_test) {
                i = self.skip_test(&tokens, i + 2);
            } else if ident(tokens.get(i)).is_some_and(|word| word == "use") {
                let end = (i..tokens.len()).find(|&j| is(tokens.get(j), ';')).unwrap_or(i);
                self.paths(&tokens[i + 1..end], &[], Some(is_public(&tokens[..i])));
                i = end + 1;
            } else {
                let start = i;
                i = self.path(&tokens, start, &[], None);
            }
        }
    }

    /// Skips the item that begins at `start`; returns where it ends.
    fn skip_test(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let ends = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            token => is(Some(token), ';'),
        };
        let length = tokens[start..].iter().position(ends).map_or(tokens.len() - start, |n| n + 1);
        if let [.., word, name, end] = &tokens[start..start + length]
            && ident(Some(word)).is_some_and(|word| word == "mod")
            && is(Some(end), ';')
        {
            self.test_modules.extend(ident(Some(name)));
        }
        start + length
    }

    /// The paths of a `use`, or of one of its groups.
    fn paths(&mut self, tokens: &[TokenTree], prefix: &[String], public: Option<bool>) {
        let mut i = 0;
        while i < tokens.len() {
            i = self.path(tokens, i, prefix, public);
        }
    }

    /// The path that begins at `start`, or what else stands there; returns where it ends. `public`
    /// is for paths of a `use`.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        start: usize,
        prefix: &[String],
        public: Option<bool>,
    ) -> usize {
        let mut path = prefix.to_vec();
        let mut i = start;
        while let Some(name) = ident(tokens.get(i)) {
            path.extend((name != "self" || path.is_empty()).then_some(name));
            i += 1;
            if !(is(tokens.get(i), ':') && is(tokens.get(i + 1), ':')) {
                break;
            }
            i += 2;
        }
        if i == start {
            if let TokenTree::Group(group) = &tokens[start] {
                self.items(group.stream());
            }
            return start + 1;
        }
        if let (Some(_), Some(TokenTree::Group(group))) = (public, tokens.get(i)) {
            self.paths(&group.stream().into_iter().collect::<Vec<_>>(), &path, public);
            return i + 1;
        }
        let alias = ident(tokens.get(i)).filter(|word| public.is_some() && word == "as");
        let mut binds =
            path.last().filter(|_| public.is_some() && !is(tokens.get(i), '*')).cloned();
        if alias.is_some() {
            binds = ident(tokens.get(i + 1));
            i += 2;
        }
        if path.len() > 1 || public.is_some() {
            self.references.push(Reference { path, binds, public: public == Some(true) });
        }
        i
    }
}

fn is_cfg_test(attribute: &TokenTree) -> bool {
    attribute.to_string().replace(' ', "") == "[cfg(test)]"
}

/// Whether `pub`, or `pub(...)`, ends these tokens.
fn is_public(before: &[TokenTree]) -> bool {
    let mut last = before.iter().rev();
    let word = match last.next() {
        Some(TokenTree::Group(_)) => last.next(),
        word => word,
    };
    ident(word).is_some_and(|word| word == "pub")
}
