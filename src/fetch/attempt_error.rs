//! Why one attempt to fetch a file failed.

use crate::base::Error;

#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// The content is not the requested file; another attempt may succeed.
    #[error("{0}")]
    Corrupt(String),
    /// The body is larger than such a file can be; another attempt would bring the same.
    #[error("{0}")]
    TooLarge(String),
    /// The server does not have the file (400, 404, 410).
    #[error("{0}")]
    Missing(String),
    /// The server refuses the file (another status); an immediate second attempt would not help.
    #[error("{0}")]
    Refused(String),
    /// Ends the whole job.
    #[error(transparent)]
    Fatal(#[from] Error),
}
