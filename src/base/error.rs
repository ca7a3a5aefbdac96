//! The one error type of the library. Messages are lower-case fragments that name the file, key or
//! rank, what was expected and what to do next; the program prefixes them and turns the kind
//! into an exit code.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// What went wrong. The variants differ in who can fix it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// The data is wrong: `path` is the file (or folder), `what` states what is wrong with it and
    /// what to do.
    #[error("{path}: {what}")]
    Data { path: PathBuf, what: String },
    /// The operating system refused something.
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// The job stopped at a checkpoint, on request; run it again to go on.
    #[error("{0}")]
    Stopped(String),
    /// Another rank reports what is wrong; this is its exit code.
    #[error("another rank failed")]
    Elsewhere(u8),
    /// The job failed for another reason.
    #[error("{0}")]
    Failed(String),
}

/// The exit code where the reader of a pipe went away, as a shell gives it for other programs: 128
/// and the number of SIGPIPE.
pub const READER_GONE: u8 = 141;

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    pub fn data(path: impl AsRef<Path>, what: impl std::fmt::Display) -> Self {
        Self::Data { path: path.as_ref().into(), what: what.to_string() }
    }

    pub fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// For `map_err`: `fs::read(p).map_err(Error::io("read", p))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// The documented exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Data { .. } => 65,
            Self::Stopped(_) => 75,
            Self::Elsewhere(code) => *code,
            Self::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe => READER_GONE,
            Self::Io { .. } | Self::Failed(_) => 1,
        }
    }
}
