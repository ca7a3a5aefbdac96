//! What all jobs share: the common options, the summary that a job prints, logging, signals and
//! exit codes.

use std::{
    fmt::Display,
    io::{ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use atlas::{
    base::{
        Error, Result, advice,
        error::READER_GONE,
        output_target::{self, Target},
        progress, slurm,
        stop_request::Stop,
        task_log::TaskLog,
    },
    config::Config,
    data::work_folder::WorkFolder,
    distributed::watchdog,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR2},
    low_level,
};

/// What a job prints when it is done.
pub struct Summary {
    /// For a person.
    pub text: String,
    /// For a program (`--json`).
    pub json: serde_json::Value,
}

/// The share of a job that is not split into tasks: task 0 of 1.
pub const WHOLE: (usize, usize) = (0, 1);

/// Options that every job with a configuration takes.
#[derive(clap::Args, Clone)]
pub struct Common {
    /// The experiment's TOML; without it, the built-in defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Change one key on top of the file, such as --set train.epochs=2 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print one JSON object on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
}

impl Common {
    pub fn config(&self) -> Result<Config> {
        Config::load(self.config.as_deref(), &self.sets)
    }

    /// The options that give another process the same configuration.
    pub fn to_options(&self) -> Vec<String> {
        let config = self.config.iter().flat_map(|p| ["--config".into(), p.display().to_string()]);
        config.chain(self.sets.iter().map(|set| format!("--set={set}"))).collect()
    }

    /// Prints the job's summary on standard output: `json` with `--json`, else `text`.
    ///
    /// # Errors
    /// As [`say`].
    pub fn print(&self, text: impl Display, json: serde_json::Value) -> Result<()> {
        if self.json { say(json) } else { say(advice::complete(text)) }
    }

    /// As [`print`](Self::print) for a job that wrote `output`: where that is standard output, the
    /// summary is logged, on standard error.
    pub fn print_beside(
        &self,
        output: &Path,
        text: impl Display,
        json: serde_json::Value,
    ) -> Result<()> {
        if !output_target::is_standard_output(output) {
            return self.print(text, json);
        }
        advice::complete(text).lines().for_each(|line| log::info!("{line}"));
        Ok(())
    }

    /// The path that `option` names for an output; `-` is standard output.
    ///
    /// # Errors
    /// Usage where no file can be written there, or the summary of `--json` goes there, too.
    pub fn output(&self, option: &str, path: &Path) -> Result<PathBuf> {
        let path = if path == Path::new("-") { Path::new("/dev/stdout") } else { path };
        if self.json && output_target::is_standard_output(path) {
            return Err(Error::usage(format!(
                "{option} is standard output, where --json prints, too: name a file, or leave out \
                 --json"
            )));
        }
        Target::of(path).map_err(|e| Error::usage(format!("{option} {e}")))?;
        Ok(path.into())
    }
}

/// Prints a line, or lines, on standard output.
///
/// # Errors
/// With exit code 141 where the reader has gone away, as in `atlas hash ... | head`; else failed.
pub fn say(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(cannot_say)
}

fn cannot_say(e: std::io::Error) -> Error {
    match e.kind() {
        ErrorKind::BrokenPipe => Error::io("write to", "standard output")(e),
        _ => Error::failed(format!(
            "cannot write to standard output: {e}; the files of this job are complete"
        )),
    }
}

/// Prints a message of this program on standard error. Where that is gone, too, nobody is left to
/// tell.
pub fn complain(message: impl Display) {
    let _ = writeln!(std::io::stderr(), "atlas: {}", advice::complete(message));
}

/// Prints what the parser of the command line has to say: help, the version, or what is wrong.
/// Returns the exit code.
pub fn answer(parsed: &clap::Error) -> u8 {
    let code = u8::try_from(parsed.exit_code()).unwrap_or(2);
    let printed = parsed.print().and_then(|()| std::io::stdout().flush());
    match printed.map_err(cannot_say) {
        Err(e) if code == 0 => {
            if e.exit_code() != READER_GONE {
                complain(&e);
            }
            e.exit_code()
        }
        _ => code,
    }
}

/// # Errors
/// Usage, unless `path`, the value of `option` on the command line, is an existing file.
pub fn must_exist(option: &str, path: &Path) -> Result<()> {
    let what = match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => "this is a folder; name a file".into(),
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => "there is no such file".into(),
        Err(e) => format!("cannot access it: {e}"),
    };
    Err(Error::usage(format!("{option} {}: {what}", path.display())))
}

/// # Errors
/// Usage where `output`, the value of `option`, is the same file as `input`, which would be lost.
pub fn must_not_replace(option: &str, output: &Path, input: &Path) -> Result<()> {
    let file = |path: &Path| {
        let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some((metadata.dev(), metadata.ino()))
    };
    match file(output) {
        same if same.is_some() && same == file(input) => Err(Error::usage(format!(
            "{option} {}: this is the file to read, {}, which would be lost; name another file",
            output.display(),
            input.display()
        ))),
        _ => Ok(()),
    }
}

/// Which share of the shards a task of an array job does.
#[derive(clap::Args, Clone, Default)]
pub struct Tasks {
    /// Number of this task (default: SLURM_ARRAY_TASK_ID; outside an array, all tasks at once)
    #[arg(long, value_name = "I")]
    pub task: Option<usize>,
    /// Number of tasks (default: what `plan` fixed, never the size of the array at hand)
    #[arg(long, value_name = "N")]
    pub tasks: Option<usize>,
}

impl Tasks {
    /// (task, tasks): the task processes the shards task, task + tasks, ... Without --tasks, their
    /// number is `planned`. `None` outside an array and without --task: this process does the whole
    /// job. An array may be larger than the plan: its last tasks then have nothing to do.
    pub fn resolve(
        &self,
        planned: impl FnOnce() -> Result<usize>,
    ) -> Result<Option<(usize, usize)>> {
        let task = match self.task.map_or_else(slurm::array_task, |task| Ok(Some(task)))? {
            Some(task) => task,
            None if self.tasks.is_some() => {
                return Err(Error::usage("--tasks without --task: pass this task's number, too"));
            }
            None => return Ok(None),
        };
        let tasks = self.tasks.map_or_else(planned, Ok)?;
        if task >= tasks && self.task.is_some() {
            return Err(Error::usage(format!(
                "--task {task} of {tasks}: tasks count from 0 to {}",
                tasks.saturating_sub(1)
            )));
        }
        Ok(Some((task, tasks)))
    }
}

/// The number of tasks that `plan` fixed.
pub fn planned(work: &WorkFolder) -> Result<usize> {
    Ok(work.plan()?.tasks)
}

/// Runs `work` and records in `log` that it began and how it ended, for `atlas status`.
pub fn recorded<T>(log: &TaskLog, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    log.begin();
    let result = work();
    let (code, text) = result.as_ref().err().map_or((0, None), exit_code_and_message);
    log.end(code, text);
    result
}

/// The exit code of an error, and its message unless another rank prints it or the reader of the
/// output has gone away.
pub fn exit_code_and_message(e: &anyhow::Error) -> (u8, Option<String>) {
    match e.downcast_ref::<Error>() {
        Some(Error::Elsewhere(code)) => (*code, None),
        Some(error) if error.exit_code() == READER_GONE => (READER_GONE, None),
        // Our own messages already contain the system's.
        Some(error) => (error.exit_code(), Some(advice::complete(error))),
        None => (1, Some(format!("{e:#}"))),
    }
}

/// Log lines go to standard error with the time of day: from level `info` up, or as `RUST_LOG`
/// says.
pub fn set_up_logging() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format(|f, record| {
            let level = match record.level() {
                log::Level::Info => String::new(),
                level => format!("{}: ", level.as_str().to_lowercase()),
            };
            let tag = watchdog::tag().unwrap_or_default();
            writeln!(
                f,
                "{} {tag}{level}{}",
                &f.timestamp_seconds().to_string()[11..19],
                advice::complete(record.args())
            )
        })
        .target(env_logger::Target::Pipe(Box::new(AboveProgressBars)))
        .init();
}

/// Standard error, with the progress bars redrawn below each line.
struct AboveProgressBars;

impl Write for AboveProgressBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        progress::above(|| std::io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The request to stop that signals set, see [`stop_on_signals`].
pub static STOP: Stop = Stop::new();

/// A second SIGINT within this time is ignored: launchers deliver the first one twice.
const SAME_SIGNAL: Duration = Duration::from_secs(2);

/// From now on SIGINT, SIGTERM and SIGUSR2 request a stop, and a second SIGINT ends the program at
/// once.
pub fn stop_on_signals() -> anyhow::Result<&'static Stop> {
    static SET_UP: AtomicBool = AtomicBool::new(false);
    if SET_UP.swap(true, Relaxed) {
        return Ok(&STOP);
    }
    let since = Instant::now();
    // When the first SIGINT came, in milliseconds after `since` plus one; 0: none yet.
    static FIRST: AtomicU64 = AtomicU64::new(0);
    let interrupted = move || {
        let now = since.elapsed().as_millis() as u64 + 1;
        match FIRST.compare_exchange(0, now, Relaxed, Relaxed) {
            // SAFETY: ends the process without running any more code.
            Err(first) if now - first > SAME_SIGNAL.as_millis() as u64 => unsafe {
                libc::_exit(130)
            },
            _ => STOP.ask(),
        }
    };
    // SAFETY: the handlers only read a clock, change atomics and end the process, all of which a
    // signal handler may do.
    unsafe {
        low_level::register(SIGINT, interrupted)?;
        low_level::register(SIGTERM, || STOP.ask_urgently())?;
        low_level::register(SIGUSR2, || STOP.ask())?;
    }
    Ok(&STOP)
}
