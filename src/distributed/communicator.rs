//! What ranks exchange: one small trait with three implementations. `alone` is one process without
//! a launcher and makes no call to MPI; `mpi` sums on the host; `nccl` sums on the GPUs and leaves
//! the rest to MPI.

use tch::Tensor;

use crate::base::{Error, Result};

/// How values of several ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Their sum.
    Sum,
    /// The largest of them.
    Max,
}

/// A sum that has been started.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a sum that was started has to be finished"]
pub struct Ticket(pub u64);

/// What a training needs of the other ranks. Every call but `abort` and `health` is collective: all
/// ranks make the same calls in the same order.
pub trait Comm: Send + Sync {
    /// From 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// Rank 0's `bytes` go to all ranks, each of which passes as many.
    fn broadcast(&self, bytes: &mut [u8]) -> Result<()>;
    /// Waits until all ranks have made this call.
    fn barrier(&self) -> Result<()>;
    /// Starts to sum `bucket` (one dimension, contiguous; f32, f64 or bf16) over the ranks, in
    /// place. Nothing may use it until [`finish`](Self::finish). Sums of bf16 are rounded once by
    /// MPI, and by NCCL each time that it passes on a part of them.
    fn begin(&self, bucket: &Tensor) -> Result<Ticket>;
    /// What is computed from the bucket after this call sees the sum.
    fn finish(&self, ticket: Ticket) -> Result<()>;
    /// Combines a few numbers, in place.
    fn all_reduce(&self, values: &mut [f64], op: Op) -> Result<()>;
    /// Ends all ranks at once, from any thread.
    fn abort(&self, code: i32) -> !;
    /// The last call: leaves the other ranks in order.
    fn close(&self);
    /// Whether the communication itself still works; from any thread.
    fn health(&self) -> Result<()> {
        Ok(())
    }
}

impl dyn Comm {
    /// The result of what all ranks do alike: if it failed on one, it failed on all. The lowest
    /// rank that failed returns its error, and the others [`Error::Elsewhere`] with its exit code.
    pub fn agree<T>(&self, result: Result<T>) -> Result<T> {
        // 256 times (size - rank), so that the lowest rank is the largest number, plus the code.
        let failed = |e: &Error| (self.size() - self.rank()) * 256 + usize::from(e.exit_code());
        let mut first = [result.as_ref().err().map_or(0, failed) as f64];
        self.all_reduce(&mut first, Op::Max)?;
        let first = first[0] as usize;
        match result {
            Err(e) if self.size() - first / 256 == self.rank() => Err(e),
            _ if first > 0 => Err(Error::Elsewhere((first % 256) as u8)),
            result => result,
        }
    }

    /// Whether `here` is true on any rank.
    pub fn any(&self, here: bool) -> Result<bool> {
        let mut anywhere = [f64::from(u8::from(here))];
        self.all_reduce(&mut anywhere, Op::Max)?;
        Ok(anywhere[0] > 0.0)
    }

    /// Checks that `value` is the same on all ranks.
    ///
    /// # Errors
    /// `otherwise` on the first rank, [`Error::Elsewhere`] on the others.
    pub fn same(&self, value: u64, otherwise: impl FnOnce() -> Error) -> Result<()> {
        let (high, low) = ((value >> 32) as f64, (value & 0xffff_ffff) as f64);
        let mut most = [high, low, -high, -low];
        self.all_reduce(&mut most, Op::Max)?;
        let is_same = most[0] == -most[2] && most[1] == -most[3];
        self.agree(if is_same { Ok(()) } else { Err(otherwise()) })
    }

    /// Rank 0's `text`, on all ranks.
    pub fn broadcast_text(&self, text: &str) -> Result<String> {
        let mut length = (text.len() as u64).to_le_bytes();
        self.broadcast(&mut length)?;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(u64::from_le_bytes(length) as usize, 0);
        self.broadcast(&mut bytes)?;
        String::from_utf8(bytes).map_err(Error::failed)
    }

    /// The texts of all ranks, on all of them.
    pub fn gather_text(&self, text: &str) -> Result<Vec<String>> {
        let mut longest = [text.len() as f64];
        self.all_reduce(&mut longest, Op::Max)?;
        // Each rank's part is 0 on the others; -1, which is no byte, marks the end of the text.
        let place = longest[0] as usize + 1;
        let mut bytes = vec![0.0; place * self.size()];
        let mine = bytes[place * self.rank()..].iter_mut();
        mine.zip(text.bytes().map(f64::from).chain([-1.0])).for_each(|(to, byte)| *to = byte);
        self.all_reduce(&mut bytes, Op::Sum)?;
        let text = |place: &[f64]| {
            String::from_utf8(place.iter().take_while(|b| **b >= 0.0).map(|b| *b as u8).collect())
        };
        bytes.chunks_exact(place).map(text).collect::<Result<_, _>>().map_err(Error::failed)
    }
}
