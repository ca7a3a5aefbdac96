//! A process without a launcher: one rank, whose own values are the sums.

use tch::Tensor;

use super::{Comm, Op, Ticket};
use crate::base::Result;

/// The only rank.
pub struct Alone;

impl Comm for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn broadcast(&self, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn begin(&self, _: &Tensor) -> Result<Ticket> {
        Ok(Ticket(0))
    }

    fn finish(&self, _: Ticket) -> Result<()> {
        Ok(())
    }

    fn all_reduce(&self, _: &mut [f64], _: Op) -> Result<()> {
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    fn close(&self) {}
}
