//! The 28 protein locations and sets of them.

use std::fmt;

use crate::base::near_miss::nearest;

mod table;

pub use table::{BadRow, RowFault, Rows, check_columns, read_ids, read_table, read_text};

/// Number of classes.
pub const CLASSES: usize = 28;

/// Names of the classes, by number, as the 2018 competition gives them.
pub const NAMES: [&str; CLASSES] = [
    "Nucleoplasm",
    "Nuclear membrane",
    "Nucleoli",
    "Nucleoli fibrillar center",
    "Nuclear speckles",
    "Nuclear bodies",
    "Endoplasmic reticulum",
    "Golgi apparatus",
    "Peroxisomes",
    "Endosomes",
    "Lysosomes",
    "Intermediate filaments",
    "Actin filaments",
    "Focal adhesion sites",
    "Microtubules",
    "Microtubule ends",
    "Cytokinetic bridge",
    "Mitotic spindle",
    "Microtubule organizing center",
    "Centrosome",
    "Lipid droplets",
    "Plasma membrane",
    "Cell junctions",
    "Mitochondria",
    "Aggresome",
    "Cytosol",
    "Cytoplasmic bodies",
    "Rods & rings",
];

/// A set of classes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(u32);

impl Labels {
    /// From class numbers below [`CLASSES`]; `None` where one is not.
    pub fn from_classes(classes: impl IntoIterator<Item = usize>) -> Option<Self> {
        classes.into_iter().try_fold(Self(0), |set, c| (c < CLASSES).then(|| Self(set.0 | 1 << c)))
    }

    /// Reads `"16 0"`: class numbers or [`NAMES`] in any order and case, separated by blanks, or by
    /// `;`, `|` or `,`. Names hold blanks, too: of several names that fit, the longest counts. The
    /// error names the part that is wrong, and what may have been meant.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split([';', '|', ',']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let mut rest = &words[..];
            while let Some(first) = rest.first() {
                let Some((class, used)) = first_class(rest) else {
                    let is_number = first.starts_with(|c: char| c.is_ascii_digit() || c == '-');
                    return Err(unknown(if is_number { &rest[..1] } else { rest }));
                };
                set.0 |= 1 << class;
                rest = &rest[used..];
            }
        }
        Ok(set)
    }

    pub fn insert(&mut self, class: usize) {
        assert!(class < CLASSES, "class {class} of {CLASSES}");
        self.0 |= 1 << class;
    }

    pub fn contains(self, class: usize) -> bool {
        self.0 >> class & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The classes in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..CLASSES).filter(move |&c| self.contains(c))
    }

    /// The names of the classes, separated by commas.
    pub fn names(self) -> String {
        self.iter().map(|class| NAMES[class]).collect::<Vec<_>>().join(", ")
    }

    /// One 0 or 1 per class.
    pub fn one_hot(self) -> [u8; CLASSES] {
        std::array::from_fn(|c| u8::from(self.contains(c)))
    }
}

/// Class numbers ascending, separated by one blank, as in the competition's CSV files.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, class) in self.iter().enumerate() {
            write!(f, "{}{class}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// The class that `words` begin with, and how many of them it takes: of several names the longest.
fn first_class(words: &[&str]) -> Option<(usize, usize)> {
    if let Ok(class) = words.first()?.parse::<usize>() {
        return (class < CLASSES).then_some((class, 1));
    }
    let taken = |class: usize| {
        let (mut name, mut taken) = (NAMES[class].split(' '), 0);
        name.all(|word| {
            taken += 1;
            words.get(taken - 1).is_some_and(|other| other.eq_ignore_ascii_case(word))
        })
        .then_some((class, taken))
    };
    (0..CLASSES).filter_map(taken).max_by_key(|&(_, taken)| taken)
}

/// What is wrong with `words`, which begin with no class.
fn unknown(words: &[&str]) -> String {
    let what = words.join(" ");
    let meant = match meant(words) {
        Some(class) => format!("; did you mean `{class}`?"),
        None => String::new(),
    };
    format!(
        "unknown class `{}` (expected 0 to {}, or a name such as {}, several with blanks, `;` or \
            `|` between){meant}",
        excerpt(&what),
        CLASSES - 1,
        NAMES[0]
    )
}

/// The class that `words` may begin with: a number with a fraction of 0, as tables of numbers with
/// gaps get it; a name that differs in a few letters; the beginning of a single name.
fn meant(words: &[&str]) -> Option<String> {
    let whole = words[0].parse::<f64>().ok().filter(|v| v.fract() == 0.0);
    if let Some(class) = whole.filter(|v| (0.0..CLASSES as f64).contains(v)) {
        return Some(class.to_string());
    }
    let lower = NAMES.map(str::to_lowercase);
    let name_of = |found: &str| lower.iter().position(|name| name == found).map(|c| NAMES[c]);
    // No name has more words than four.
    let beginnings = (1..=words.len().min(4)).rev().map(|n| words[..n].join(" ").to_lowercase());
    let near = |text: String| nearest(&text, lower.iter().map(String::as_str)).and_then(name_of);
    let mut begun = lower.iter().filter(|name| name.starts_with(&words[0].to_lowercase()));
    let only = || match (begun.next(), begun.next()) {
        (Some(one), None) => name_of(one),
        _ => None,
    };
    beginnings.map(near).find_map(|name| name).or_else(only).map(String::from)
}

/// One line that names the classes which none of `sets` has, `what` is what the sets are, such as
/// `the training samples`; `None` where every class is there.
pub fn absent(sets: impl IntoIterator<Item = Labels>, what: &str) -> Option<String> {
    let all = sets.into_iter().fold(0, |all, set| all | set.0);
    let absent = Labels(!all & ((1 << CLASSES) - 1));
    (!absent.is_empty()).then(|| {
        format!(
            "{} of {CLASSES} classes have no sample in {what}: {}",
            absent.len(),
            absent.names()
        )
    })
}

/// The beginning of `text`, on one line, for messages.
pub fn excerpt(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    let mut short: String = text.chars().take(60).map(shown).collect();
    if text.chars().nth(60).is_some() {
        short += "...";
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_in_order_and_parse_back() {
        let set = Labels::parse("16 0  2").unwrap();
        assert_eq!(set.to_string(), "0 2 16");
        assert_eq!(Labels::from_classes([2, 16, 0]), Some(set));
        assert_eq!((set.len(), set.one_hot()[16], set.one_hot()[1]), (3, 1, 0));
        assert!(Labels::parse("3 28").unwrap_err().contains("`28`"));
        assert!(Labels::from_classes([28]).is_none());
    }

    #[test]
    fn names_are_as_good_as_numbers() {
        let every: Vec<String> = (0..CLASSES).map(|c| c.to_string()).collect();
        for text in [NAMES.join(";"), NAMES.join(" | "), NAMES.join(" "), every.join(",")] {
            assert_eq!(Labels::parse(&text).unwrap().len(), CLASSES, "{text}");
        }
        for (class, name) in NAMES.iter().enumerate() {
            let one = Labels::from_classes([class]).unwrap();
            assert_eq!(Labels::parse(name), Ok(one));
            assert_eq!(Labels::parse(&format!(" {} ", name.to_uppercase())), Ok(one));
        }
        let mixed = Labels::parse("nucleoli fibrillar center 25;Rods & rings").unwrap();
        assert_eq!(mixed.to_string(), "3 25 27");
        assert!(Labels::parse(" ; ").unwrap().is_empty());
        for (text, named) in [
            ("0;Nucleus", "`Nucleus`"),
            ("Nuclear membrane Nuclear pore", "`Nuclear pore`"),
            ("-1", "`-1`"),
            ("16.0 3", "`16.0`"),
        ] {
            let e = Labels::parse(text).unwrap_err();
            assert!(e.contains(named) && e.contains("0 to 27") && e.contains(NAMES[0]), "{e}");
        }
    }

    #[test]
    fn what_may_have_been_meant_is_said() {
        for (text, meant) in [
            ("3.0", Some("`3`")),
            ("2 16.0", Some("`16`")),
            ("Nucleoplsm", Some("`Nucleoplasm`")),
            ("cytosol;mitochondrium", Some("`Mitochondria`")),
            ("Nuclear_membrane", Some("`Nuclear membrane`")),
            ("Nucleoplsm Cytosol", Some("`Nucleoplasm`")),
            ("Golgi", Some("`Golgi apparatus`")),
            ("rods and rings", Some("`Rods & rings`")),
            ("28.0", None),
            ("3.5", None),
            ("Xyzzy", None),
        ] {
            let e = Labels::parse(text).unwrap_err();
            let question = e.rsplit_once("; did you mean ").map(|(_, meant)| meant);
            assert_eq!(question, meant.map(|m| format!("{m}?")).as_deref(), "{text}: {e}");
        }
    }

    #[test]
    fn classes_that_no_set_has_are_listed() {
        let sets: Vec<_> = (0..CLASSES).map(|c| Labels::from_classes([c]).unwrap()).collect();
        assert_eq!(absent(sets.clone(), "x"), None);
        let text = absent(sets[1..27].iter().copied(), "the table").unwrap();
        let parts = ["2 of 28", "the table", "Nucleoplasm, Rods & rings"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(absent([], "x").unwrap().contains("28 of 28"));
    }
}
