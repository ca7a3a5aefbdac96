//! Every command that a message, a help page or a page of the documentation proposes is one that
//! the program takes, and does what it says.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[path = "advice/literals.rs"]
mod literals;
#[path = "pipeline/small.rs"]
mod small;
use small::{Small, stderr, succeeds};

/// The commands in backticks, without `atlas`.
fn in_backticks(text: &str) -> Vec<String> {
    let parts = text.split("`atlas ").skip(1);
    parts.map(|part| part.split('`').next().unwrap().to_string()).collect()
}

/// `text` with a value in place of each `{placeholder}`: a word that can also be a number.
fn filled(text: &str) -> String {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |out, part| out + "1" + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// Runs a command line in `folder`, where `atlas` and `target/release/atlas` are the program.
fn shell(folder: &Path, line: &str) -> Output {
    let bin = folder.join("target/release");
    if !bin.exists() {
        fs::create_dir_all(&bin).unwrap();
        symlink(assert_cmd::cargo::cargo_bin!("atlas"), bin.join("atlas")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path);
    for name in ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_JOB_ID", "ATLAS_RUN"] {
        command.env_remove(name);
    }
    command.env("OMP_WAIT_POLICY", "PASSIVE").output().unwrap()
}

/// The commands that messages propose, with a value for each placeholder.
fn of_messages() -> BTreeSet<String> {
    let texts = literals::of("src").into_iter().chain(literals::of("jobs"));
    let commands = texts.flat_map(|text| in_backticks(&text));
    let named = commands.filter(|c| !c.trim().is_empty() && !c.starts_with('{')); // {job}
    named.map(|c| filled(&c)).collect()
}

#[test]
fn every_command_of_a_message_is_complete() {
    let commands = of_messages();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let folder = tempfile::tempdir().unwrap();
        let out = shell(folder.path(), &format!("atlas {command}"));
        // There is nothing to work on here, but the command line itself must be right.
        let said = stderr(&out);
        let wrong = ["Usage: atlas", "error: ", "pass --fold", "No such job"];
        assert!(!wrong.iter().any(|sign| said.contains(sign)), "atlas {command}: {said}");
    }
}

#[test]
fn every_proposal_stands_in_backticks_where_it_is_completed() {
    for text in literals::of("src").iter().chain(&literals::of("jobs")) {
        for bare in ["next: atlas ", "run atlas ", "then atlas "] {
            assert!(!text.contains(bare), "{text}");
        }
    }
}

#[test]
fn the_examples_of_the_help_pages_are_command_lines() {
    let mut examples = BTreeSet::new();
    for text in literals::of("jobs").iter().filter(|text| text.starts_with("Example")) {
        let lines = text.trim_start_matches("Examples:").trim_start_matches("Example:").lines();
        let command =
            |line: &str| Some(line.split_once("atlas ")?.1.split("   ").next()?.to_string());
        examples.extend(lines.filter_map(command));
    }
    assert!(examples.len() > 20, "{examples:?}");
    let folder = tempfile::tempdir().unwrap();
    for example in examples {
        let first = example.split(" && ").next().unwrap().split(" > ").next().unwrap();
        succeeds(&shell(folder.path(), &format!("atlas {first} --help")));
    }
}

/// A small data set with a configuration file whose name needs quoting.
struct WithFile {
    small: Small,
    /// What every job is started with.
    options: String,
}

impl WithFile {
    fn new() -> Self {
        let small = Small::new();
        let job = small.job(&["config"]);
        let out = small.atlas(&["config"]).args(job.get_args().skip(1)).output().unwrap();
        succeeds(&out);
        fs::write(small.folder.path().join("my own.toml"), out.stdout).unwrap();
        Self { small, options: "--config 'my own.toml' --set train.batch=6".into() }
    }

    fn shell(&self, line: &str) -> Output {
        shell(self.small.folder.path(), line)
    }

    fn run(&self, job: &str) -> Output {
        self.shell(&format!("atlas {job} {}", self.options))
    }

    /// Runs a job that fails, and what its messages propose until it succeeds.
    #[track_caller]
    fn is_mended(&self, job: &str, code: i32, proposed: &str) {
        let mut out = self.run(job);
        assert_eq!(out.status.code(), Some(code), "{job}: {}", stderr(&out));
        let first = in_backticks(&stderr(&out));
        assert!(first.iter().any(|c| c.starts_with(proposed)), "{job}: {}", stderr(&out));
        for _ in 0..4 {
            for command in in_backticks(&stderr(&out)) {
                succeeds(&self.shell(&format!("atlas {command}")));
            }
            out = self.run(job);
            if out.status.success() {
                return;
            }
        }
        panic!("{job}: {}", stderr(&out));
    }
}

fn next(out: &Output) -> String {
    succeeds(out);
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().find(|line| line.starts_with("next: "));
    let command = line.and_then(|line| in_backticks(line).pop());
    command.unwrap_or_else(|| panic!("no next step: {text}"))
}

/// Following the summaries leads from the images to a submission, in the folders of the file that
/// the first command named; and each fault on the way is mended by the command that its message
/// names.
#[test]
fn proposed_commands_do_what_they_say() {
    let set = WithFile::new();
    let folder = set.small.folder.path();
    let work = |name: &str| folder.join("work").join(name);
    let mut steps = Vec::new();
    let mut command = format!("plan {}", set.options);
    while !command.starts_with("evaluate") {
        steps.push(command.split(' ').next().unwrap().to_string());
        command = next(&set.shell(&format!("atlas {command}")));
    }
    let expected = "plan preprocess dedup split train train predict submit";
    assert_eq!(steps.join(" "), expected);
    let run = fs::canonicalize(folder.join("results/latest")).unwrap();
    assert!(run.join("submission.csv").exists());

    let gone = |path: PathBuf| fs::remove_file(path).unwrap();
    gone(run.join("thresholds.csv"));
    set.is_mended("report", 2, "submit");
    gone(work("shards/test-00000.h5"));
    gone(run.join("predictions/test-00000.h5"));
    set.is_mended("predict", 65, "preprocess");
    gone(work("folds.csv"));
    set.is_mended("train --fold 0 --run again", 65, "split");
    gone(work("duplicates.csv"));
    set.is_mended("split", 65, "dedup");
    gone(work("manifest.csv"));
    set.is_mended("dedup", 65, "plan");
    fs::write(work("plan.json"), "{}").unwrap();
    set.is_mended("preprocess --task 0", 65, "plan");

    fs::remove_dir_all(folder.join("results")).unwrap();
    let out = set.run("predict");
    assert_eq!(out.status.code(), Some(2));
    assert!(
        in_backticks(&stderr(&out))[0].starts_with("train --fold 0 --config"),
        "{}",
        stderr(&out)
    );
}

/// The lines of a page's shell blocks, with continued ones joined.
fn lines_of(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(|block| {
        let joined = block.replace("\\\n", " ");
        joined.lines().map(|line| line.split(" #").next().unwrap().to_string()).collect::<Vec<_>>()
    });
    lines.filter(|line| line.contains("atlas ")).collect()
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|e| e == "md");
    [root.join("README.md")].into_iter().chain(docs.filter(is_page)).collect()
}

/// After `make demo`, here with less data and a shorter training.
#[test]
fn the_commands_of_the_documentation_work_after_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(folder.path().join("configs")).unwrap();
    for name in ["atlas.toml", "seed.toml"] {
        fs::copy(root.join("configs").join(name), folder.path().join("configs").join(name))
            .unwrap();
    }
    let demo = fs::read_to_string(root.join("configs/demo.toml")).unwrap();
    let smaller = [("epochs = 24", "epochs = 1"), ("= 160", "= 48"), ("crop = 128", "crop = 32")];
    let demo = smaller.iter().fold(demo, |demo, (large, small)| demo.replace(large, small));
    fs::write(folder.path().join("configs/demo.toml"), demo).unwrap();
    let make = fs::read_to_string(root.join("Makefile")).unwrap().replace("\\\n", " ");
    let made: Vec<String> = make
        .lines()
        .skip_while(|line| !line.starts_with("demo:"))
        .skip(1)
        .take_while(|line| line.starts_with('\t'))
        .map(|line| line.replace("\t@$(ATLAS)", "target/release/atlas"))
        .collect();
    assert_eq!(made.len(), 3);
    for line in made {
        let line = line
            .replace("2000", "80")
            .replace("1000", "12")
            .replace("--external 40", "--external 4")
            .replace("--size 160", "--size 64")
            .replace("--min-per-class 30", "");
        succeeds(&shell(folder.path(), &line));
    }
    let (mut run, mut parsed) = (0, 0);
    for page in pages() {
        for line in lines_of(&page).iter().filter(|line| line.starts_with("target/release/atlas")) {
            let waits = line.contains("explore") || line.contains("--watch");
            let of_demo = line.contains("demo") && !waits;
            let has_placeholder = line.split([' ', '=', '/']).any(|word| {
                word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '.')
            });
            if of_demo && !has_placeholder {
                let out = shell(folder.path(), line);
                assert!(out.status.success(), "{}: {line}: {}", page.display(), stderr(&out));
                run += 1;
            } else {
                let out = shell(folder.path(), &format!("{line} --help"));
                assert!(out.status.success(), "{}: {line}: {}", page.display(), stderr(&out));
                parsed += 1;
            }
        }
    }
    assert!(run >= 10 && parsed >= 10, "{run} commands run, {parsed} parsed");
}
