//! Starts the training of a fold on several ranks of this machine.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    base::{Error, Result, host, stop_request::Stop},
    distributed::Heartbeat,
    training::run_folder::Run,
};

/// How often the ranks and the request to stop are checked.
const TICK: Duration = Duration::from_millis(50);

/// Runs `atlas train` for `fold` of `run` with `ranks` ranks; `options` are the options of the
/// configuration. After `stop` this process asks the first rank to stop, which the heartbeat file
/// names: launchers kill their ranks at once, or do not forward signals.
///
/// # Errors
/// Usage, where the launcher cannot be started; [`Error::Stopped`] after a stop at a checkpoint;
/// [`Error::Elsewhere`] where a rank has reported what is wrong.
pub fn train_on_ranks(
    run: &Run,
    fold: usize,
    ranks: usize,
    options: &[String],
    stop: &Stop,
) -> Result<()> {
    let heartbeat = run.heartbeat(fold);
    let before = Heartbeat::read(&heartbeat);
    let launcher = std::env::var("ATLAS_MPIRUN").unwrap_or_else(|_| "mpirun".into());
    let child = command(&launcher, ranks)?
        .args(["train", "--run", &run.name(), "--fold", &fold.to_string()])
        .args(options)
        .spawn()
        .map_err(|e| {
            Error::usage(format!(
                "train.ranks = {ranks}: cannot start `{launcher}` ({e}); ATLAS_MPIRUN names \
                 another launcher"
            ))
        })?;
    let status =
        wait(child, &heartbeat, before.as_ref(), stop).map_err(Error::io("wait for", &launcher))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(75) => Err(Error::Stopped(
            "the ranks stopped at a checkpoint; run the same command again to go on".into(),
        )),
        Some(code) => Err(Error::Elsewhere(u8::try_from(code).unwrap_or(1))),
        None => Err(Error::failed(format!(
            "{launcher} was killed ({status}); run the same command again to go on"
        ))),
    }
}

/// The launcher with this program.
fn command(launcher: &str, ranks: usize) -> Result<Command> {
    let program = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let mut command = Command::new(launcher);
    command.args(["-n", &ranks.to_string(), "--bind-to", "none"]).arg(program);
    // In a process group of its own: only this process receives Ctrl-C and the terminal's input.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    let end_with_parent =
        || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?);
    // SAFETY: between fork and exec only one system call is made, which is async-signal-safe.
    unsafe { command.pre_exec(end_with_parent) };
    if rustix::process::geteuid().is_root() {
        // Open MPI refuses to run as root without these two; the user has chosen to be root.
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    Ok(command)
}

/// Waits for the launcher's end; on the way, forwards a request to stop once to the first rank.
fn wait(
    mut child: Child,
    heartbeat: &Path,
    before: Option<&Heartbeat>,
    stop: &Stop,
) -> io::Result<ExitStatus> {
    let is_alive = |h: &Heartbeat| Some(h) != before && h.host == host::name();
    let mut forwarded = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if stop.asked()
            && !forwarded
            && let Some(first) = Heartbeat::read(heartbeat).filter(is_alive)
            && let Some(pid) = Pid::from_raw(first.pid as i32)
        {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, Signal::USR2);
            forwarded = true;
        }
        thread::sleep(TICK);
    }
}
