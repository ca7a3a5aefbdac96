//! Which tensors of a file are a network's weights: training scripts put dictionaries, wrappers and
//! other modules around a network, all of which show in the names, and may save two networks.

use std::collections::{BTreeMap, HashSet};

use crate::{
    config::{Head, Stem},
    network::model::{ARCHS, Spec},
};

/// The tensors to read from a file: each one's index in the list of names, and its name from then
/// on.
pub type Choice = Vec<(usize, String)>;

/// Parts of a name that wrappers insert anywhere in it: torch.compile, DataParallel and DDP (also
/// AveragedModel and timm's EMA), FSDP, activation checkpointing.
const WRAPPERS: [&str; 4] =
    ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// Words in a key that say that the weights are averages over steps.
const AVERAGED: [&str; 6] = ["ema", "swa", "avg", "averaged", "average", "shadow"];

/// Keys of training scripts for the network's weights, in the order of preference.
const KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// Which of the tensors are the weights of a network, under its own names, and a note on each
/// tensor or network that is left out.
///
/// All tensors whose names are those of a network behind the same prefix belong together. Of
/// several such networks, averaged weights are taken before others, then the keys of [`KEYS`] in
/// this order, then the shortest prefix. A part of a network does not count as one.
pub fn choose(names: &[String]) -> (Choice, Vec<String>) {
    let known = known_names();
    let bare: Vec<String> = names.iter().map(|name| without_wrappers(name)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for prefix in bare.iter().filter_map(|name| prefix(name, &known)) {
        *counts.entry(prefix).or_default() += 1;
    }
    let most = counts.values().max().copied().unwrap_or(0);
    let mut networks: Vec<&str> =
        counts.iter().filter(|(_, n)| **n > most / 2).map(|(prefix, _)| *prefix).collect();
    networks.sort_by_key(|prefix| rank(prefix));
    let taken = networks.first().copied().unwrap_or_default();

    let mut notes = Vec::new();
    if networks.len() > 1 {
        let others: Vec<_> = networks[1..].iter().map(|prefix| place(prefix)).collect();
        notes.push(format!(
            "the file has the weights of {} networks; taken are those {}, not those {}",
            networks.len(),
            place(taken),
            others.join(" and "),
        ));
    }
    // In a dictionary of several, what is in the others is not worth a note.
    let around = match taken.matches('.').count() {
        0 | 1 => "",
        _ => taken.split_inclusive('.').next().unwrap_or_default(),
    };
    let (mut choice, mut left_out) = (Choice::new(), Vec::new());
    for (index, name) in bare.iter().enumerate() {
        let of_network = prefix(name, &known).filter(|p| counts[p] > most / 2);
        let short = name.strip_prefix(taken).filter(|_| of_network.is_none_or(|p| p == taken));
        match short {
            Some(short) if !is_ignored(short) => choice.push((index, short.to_string())),
            None if of_network.is_none() && !is_ignored(name) && name.starts_with(around) => {
                left_out.push(name);
            }
            _ => {}
        }
    }
    if !left_out.is_empty() {
        let named = left_out.iter().map(|name| format!("`{}`", shown(name)));
        notes.push(format!(
            "tensors that are not {} are left out: {}",
            place(taken),
            first_few(named)
        ));
    }
    (choice, notes)
}

/// What belongs to no network: the input and output of a comparison, counters of steps.
fn is_ignored(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(name, "input" | "logits") || matches!(last, "num_batches_tracked" | "n_averaged")
}

/// The names of all tensors of all networks.
fn known_names() -> HashSet<String> {
    let mut known = HashSet::new();
    for (arch, head) in ARCHS.iter().flat_map(|a| [(a, Head::Seed), (a, Head::Linear)]) {
        let spec = Spec {
            arch: arch.name.into(),
            stem: Stem::Standard,
            head,
            channels: 3,
            classes: 1,
            dropout: 0.0,
        };
        let shapes = spec.shapes().expect("an architecture from the list, with small sizes");
        known.extend(shapes.into_iter().map(|(name, _)| name));
    }
    known
}

fn without_wrappers(name: &str) -> String {
    name.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".")
}

/// In bytes, at least the longest of the known names: hashing the rest of a name at each of its
/// points would take a time that grows with the square of its length.
const LONGEST: usize = 100;

/// What stands before a known name, with the point at its end.
fn prefix<'a>(name: &'a str, known: &HashSet<String>) -> Option<&'a str> {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    let is_known = |rest: &str| rest.len() <= LONGEST && known.contains(rest);
    starts.map(|at| name.split_at(at)).find(|(_, rest)| is_known(rest)).map(|(p, _)| p)
}

/// The order in which networks are taken.
fn rank(prefix: &str) -> (bool, usize, usize, String) {
    let words = |part: &str| part.split('_').any(|word| AVERAGED.contains(&word));
    let is_averaged = prefix.to_lowercase().split('.').any(words);
    let first = prefix.split('.').next().unwrap_or_default();
    let key = KEYS.iter().position(|key| *key == first).unwrap_or(KEYS.len());
    (!is_averaged, key, prefix.len(), prefix.to_string())
}

fn place(prefix: &str) -> String {
    match prefix.strip_suffix('.') {
        None => "without a prefix".into(),
        Some(key) => format!("under `{}`", shown(key)),
    }
}

/// A name from a file for a message: in part where it is long, without control characters.
pub fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String =
        name.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().count() > LONGEST {
        shown += "...";
    }
    shown
}

/// The first few of `items`, and how many more there are.
pub fn first_few(items: impl ExactSizeIterator<Item = String>) -> String {
    const LISTED: usize = 5;
    let more = items.len().saturating_sub(LISTED);
    let mut text = items.take(LISTED).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text += &format!("; and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network's names behind a prefix.
    fn network(prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = known_names().into_iter().collect();
        assert!(names.iter().all(|name| name.len() <= LONGEST));
        names.sort();
        names.iter().map(|name| format!("{prefix}{name}")).collect()
    }

    #[test]
    fn names_lose_what_wrappers_and_scripts_put_around_them() {
        let plain = network("");
        for prefix in [
            "",
            "module.",
            "model.",
            "_orig_mod.",
            "module._orig_mod.model.",
            "state_dict.model.module.",
            "model.module.model.",
            "net.backbone.",
            "ema.module.",
            "model._fsdp_wrapped_module.",
        ] {
            let (choice, notes) = choose(&network(prefix));
            let names: Vec<_> = choice.into_iter().map(|(_, name)| name).collect();
            assert!(names == plain && notes.is_empty(), "{prefix}: {notes:?}");
        }
        // torch.compile and DDP of a part of the network.
        let inside: Vec<_> =
            plain.iter().map(|n| n.replacen("layer1.", "layer1._orig_mod.module.", 1)).collect();
        assert!(choose(&inside).0.into_iter().map(|c| c.1).eq(plain));
    }

    #[test]
    fn of_two_networks_the_averaged_one_is_taken_and_the_other_is_said() {
        for (first, second) in [
            ("state_dict_ema.", "state_dict."),
            ("ema_state_dict.module.", "state_dict."),
            ("model_ema.", "model."),
            ("ema.", ""),
            ("state_dict.ema_model.module.", "state_dict.model."),
            ("swa_model.", "model."),
            ("state_dict.", "current_model_state."),
            ("model.", "best.model."),
            ("", "teacher."),
        ] {
            let names = [network(second), network(first)].concat();
            let (choice, notes) = choose(&names);
            assert!(choice.iter().all(|(i, _)| *i >= names.len() / 2), "{first} {second}");
            let bare = without_wrappers(second);
            let other = bare.strip_suffix('.').map_or("without".into(), |key| format!("`{key}`"));
            assert!(notes.len() == 1 && notes[0].contains(&other), "{notes:?}");
        }
        // A loss that has a few of a network's names is none.
        let parts = ["loss.layer0.conv1.weight", "ema.head.fc1.weight"].map(String::from);
        let names = [network("model."), parts.to_vec()].concat();
        let (choice, notes) = choose(&names);
        assert_eq!((choice.len(), notes.len()), (names.len() - 2, 1), "{notes:?}");
    }

    #[test]
    fn counters_go_quietly_and_other_tensors_beside_a_network_are_said() {
        let plain = network("model.");
        let more = ["n_averaged", "model.layer0.bn1.num_batches_tracked", "model.extra"];
        let names = [plain.clone(), more.map(String::from).to_vec()].concat();
        let (choice, notes) = choose(&names);
        assert!(notes.is_empty() && choice.len() == plain.len() + 1, "{notes:?}");
        assert_eq!(choice.last().unwrap().1, "extra");

        let names = [plain.clone(), vec!["loss.pos_weight".to_string()]].concat();
        let (choice, notes) = choose(&names);
        assert!(choice.len() == plain.len() && notes[0].contains("`loss.pos_weight`"), "{notes:?}");
    }
}
