//! One collective call under way: begun, tested until it is complete.

use std::ffi::{c_int, c_void};

use mpi::ffi;
use tch::{Device, Kind, Tensor};

use crate::distributed::Op;

/// What is asked of the communication thread, and comes back complete.
pub enum Call {
    Sum(Tensor),
    Numbers(Vec<f64>, Op),
    Broadcast(Vec<u8>),
    Barrier,
}

/// A call that MPI works on. The buffers live here until it is complete.
pub struct PendingCollective {
    call: Call,
    request: ffi::MPI_Request,
    state: State,
    /// Ranks.
    size: usize,
}

enum State {
    /// What is sent; what comes goes to its place.
    Direct { _send: Send },
    /// bf16, first half: every rank gets its piece of every rank's bucket. What is sent and what
    /// comes.
    Scatter { _send: Vec<u16>, pieces: Vec<u16> },
    /// bf16, second half: every rank gets every rank's sum.
    Gather { _sum: Vec<u16>, all: Vec<u16> },
}

enum Send {
    Nothing,
    Bucket(#[expect(dead_code, reason = "MPI reads it")] Tensor),
    Numbers(#[expect(dead_code, reason = "MPI reads it")] Vec<f64>),
}

fn count(n: usize) -> c_int {
    c_int::try_from(n).expect("a bucket has fewer than 2^31 values")
}

fn check(code: c_int) {
    // MPI's own error handler has ended the job before; this is for libraries that return.
    assert_eq!(code, 0, "MPI returned the error {code}");
}

impl PendingCollective {
    pub fn begin(mut call: Call, size: usize) -> Self {
        // SAFETY: a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        let state = match &mut call {
            Call::Sum(bucket) if bucket.kind() == Kind::BFloat16 => {
                scatter(bucket, size, &mut request)
            }
            Call::Sum(bucket) => {
                assert!(
                    bucket.device() == Device::Cpu && bucket.is_contiguous() && bucket.dim() == 1
                );
                let send = bucket.copy();
                let (from, to, n) = (send.data_ptr(), bucket.data_ptr(), count(bucket.numel()));
                // SAFETY: both buffers hold `n` values of that type and live in the pending until
                // the request is complete.
                check(unsafe {
                    let kind = if bucket.kind() == Kind::Double {
                        ffi::RSMPI_DOUBLE
                    } else {
                        ffi::RSMPI_FLOAT
                    };
                    ffi::MPI_Iallreduce(
                        from,
                        to,
                        n,
                        kind,
                        ffi::RSMPI_SUM,
                        ffi::RSMPI_COMM_WORLD,
                        &raw mut request,
                    )
                });
                State::Direct { _send: Send::Bucket(send) }
            }
            Call::Numbers(values, op) => {
                let send = values.clone();
                let (from, to, n) =
                    (send.as_ptr().cast(), values.as_mut_ptr().cast(), count(values.len()));
                // SAFETY: as above.
                check(unsafe {
                    let op = if *op == Op::Sum { ffi::RSMPI_SUM } else { ffi::RSMPI_MAX };
                    ffi::MPI_Iallreduce(
                        from,
                        to,
                        n,
                        ffi::RSMPI_DOUBLE,
                        op,
                        ffi::RSMPI_COMM_WORLD,
                        &raw mut request,
                    )
                });
                State::Direct { _send: Send::Numbers(send) }
            }
            Call::Broadcast(bytes) => {
                let (at, n) = (bytes.as_mut_ptr().cast::<c_void>(), count(bytes.len()));
                // SAFETY: the buffer holds `n` bytes and lives in the pending until the request is
                // complete.
                check(unsafe {
                    ffi::MPI_Ibcast(
                        at,
                        n,
                        ffi::RSMPI_UINT8_T,
                        0,
                        ffi::RSMPI_COMM_WORLD,
                        &raw mut request,
                    )
                });
                State::Direct { _send: Send::Nothing }
            }
            Call::Barrier => {
                // SAFETY: no buffers.
                check(unsafe { ffi::MPI_Ibarrier(ffi::RSMPI_COMM_WORLD, &raw mut request) });
                State::Direct { _send: Send::Nothing }
            }
        };
        Self { call, request, state, size }
    }

    /// Whether a second half is still to begin.
    pub fn in_first_half(&self) -> bool {
        matches!(self.state, State::Scatter { .. })
    }

    /// Lets MPI work; whether the call is complete. A second half begins where `second_halves` is
    /// given.
    pub fn test(&mut self, second_halves: Option<ffi::MPI_Comm>) -> bool {
        let mut flag = 0;
        // SAFETY: the request is under way, its buffers live in this pending.
        check(unsafe {
            ffi::MPI_Test(&raw mut self.request, &raw mut flag, ffi::RSMPI_STATUS_IGNORE)
        });
        if flag == 0 {
            return false;
        }
        match &mut self.state {
            State::Direct { .. } => true,
            State::Scatter { pieces, .. } => {
                if let Some(comm) = second_halves {
                    let sum = sum(pieces, self.size);
                    self.state = gather(sum, self.size, comm, &mut self.request);
                }
                false
            }
            State::Gather { all, .. } => {
                if let Call::Sum(bucket) = &self.call {
                    // SAFETY: the bucket holds its number of bf16 values, and `all` at least as
                    // many.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            all.as_ptr(),
                            bucket.data_ptr().cast(),
                            bucket.numel(),
                        )
                    };
                }
                true
            }
        }
    }

    pub fn end(self) -> Call {
        self.call
    }
}

/// A second communicator of all ranks; collective.
pub fn duplicate_world() -> ffi::MPI_Comm {
    // SAFETY: constants of the library; every rank's communication thread makes this call first.
    unsafe {
        let mut comm = ffi::RSMPI_COMM_NULL;
        check(ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &raw mut comm));
        comm
    }
}

/// MPI knows no bf16, and a sum in bf16 would round at every rank. So each rank collects its piece
/// from all, sums it in f32 and hands it out: as many bytes on the wire as a ring would move, and
/// half of f32's.
fn scatter(bucket: &Tensor, size: usize, request: &mut ffi::MPI_Request) -> State {
    assert!(bucket.device() == Device::Cpu && bucket.is_contiguous() && bucket.dim() == 1);
    let piece = bucket.numel().div_ceil(size);
    let mut send = vec![0u16; piece * size];
    let mut pieces = vec![0u16; piece * size];
    // SAFETY: the bucket holds its number of bf16 values, and `send` at least as many.
    unsafe {
        std::ptr::copy_nonoverlapping(bucket.data_ptr().cast(), send.as_mut_ptr(), bucket.numel())
    };
    let (from, to, n) = (send.as_ptr().cast(), pieces.as_mut_ptr().cast(), count(piece));
    // SAFETY: both buffers hold `size` pieces of `n` values and live in the pending until the
    // request is complete.
    check(unsafe {
        let kind = ffi::RSMPI_UINT16_T;
        ffi::MPI_Ialltoall(from, n, kind, to, n, kind, ffi::RSMPI_COMM_WORLD, request)
    });
    State::Scatter { _send: send, pieces }
}

fn gather(
    sum: Vec<u16>,
    size: usize,
    comm: ffi::MPI_Comm,
    request: &mut ffi::MPI_Request,
) -> State {
    let mut all = vec![0u16; sum.len() * size];
    let (from, to, n) = (sum.as_ptr().cast(), all.as_mut_ptr().cast(), count(sum.len()));
    // SAFETY: the buffers hold one and `size` pieces of `n` values and live in the pending until the
    // request is complete.
    check(unsafe {
        let kind = ffi::RSMPI_UINT16_T;
        ffi::MPI_Iallgather(from, n, kind, to, n, kind, comm, request)
    });
    State::Gather { _sum: sum, all }
}

/// Sums `size` pieces of bf16 in f32, in the order of the ranks.
fn sum(pieces: &[u16], size: usize) -> Vec<u16> {
    let n = pieces.len() / size;
    let wide = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    (0..n).map(|i| narrow((0..size).map(|rank| wide(pieces[rank * n + i])).sum())).collect()
}

/// The nearest bf16, ties to even.
fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits >> 16) as u16 | 0x40
    } else {
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against libtorch's rounding, for all halves of the exponent and mantissa that matter.
    #[test]
    fn bf16_is_rounded_as_libtorch_does() {
        let values: Vec<f32> = (0..1u32 << 20)
            .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)))
            .filter(|x| !x.is_nan())
            .collect();
        let theirs = Tensor::from_slice(&values).to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let mut expected = vec![0f32; values.len()];
        theirs.copy_data(&mut expected, values.len());
        for (x, y) in values.iter().zip(expected) {
            assert_eq!(f32::from_bits(u32::from(narrow(*x)) << 16).to_bits(), y.to_bits(), "{x}");
        }
    }

    #[test]
    fn pieces_are_summed_in_f32() {
        let bits = |x: f32| narrow(x);
        // 256 + 1 + 1 is 258 in f32; in bf16, 256 + 1 stays 256.
        assert_eq!(
            sum(&[bits(256.0), bits(2.0), bits(1.0), bits(0.5), bits(1.0), bits(0.25)], 3),
            [bits(258.0), bits(2.75)]
        );
    }
}
