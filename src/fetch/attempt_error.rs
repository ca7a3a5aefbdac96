//! Why one attempt to fetch a file failed.

use std::fmt;

use crate::base::Error;

#[derive(Debug)]
pub enum AttemptError {
    /// Another attempt may succeed.
    Retry(String),
    /// The content is not the requested file; another attempt may succeed.
    Corrupt(String),
    /// The server does not have the file (400, 404, 410).
    Missing(String),
    /// The server refuses the file (another status); an immediate second attempt would not help.
    Refused(String),
    /// Ends the whole job.
    Fatal(Error),
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(what) | Self::Corrupt(what) | Self::Missing(what) | Self::Refused(what) => {
                f.write_str(what)
            }
            Self::Fatal(e) => e.fmt(f),
        }
    }
}

impl From<Error> for AttemptError {
    fn from(e: Error) -> Self {
        Self::Fatal(e)
    }
}
