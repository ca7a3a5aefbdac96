//! Takes the place of `mpi` and `nccl` in a program built without them: every call is an error.

use super::Comm;
use crate::base::{Error, Result};

const WITHOUT: &str = "this program was built without MPI (`--no-default-features`): start it \
    without a launcher, or build it with MPI";

pub fn start(_tasks: usize) -> Result<(Box<dyn Comm>, usize, usize)> {
    Err(Error::usage(WITHOUT))
}

pub fn library() -> String {
    "built without".into()
}

pub fn over(_control: Box<dyn Comm>, _device: usize) -> Result<Box<dyn Comm>> {
    Err(Error::usage(format!("comm.backend = \"nccl\": {WITHOUT}")))
}
