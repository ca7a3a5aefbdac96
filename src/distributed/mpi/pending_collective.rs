//! One collective call that MPI works on: started, then tested until it is complete.

use std::{
    any::Any,
    ffi::{c_int, c_void},
};

use half::bf16;
use mpi::ffi;
use tch::{Device, Kind, Tensor};

use crate::distributed::Op;

/// What the communication thread is asked to do, and returns when it is complete.
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
    stage: Stage,
    /// Number of ranks.
    size: usize,
}

enum Stage {
    /// One call of MPI, which reads `_send` and writes its result into the buffer of the `Call`.
    Direct { _send: Box<dyn Any> },
    /// bf16, first half: every rank gets its piece of every rank's bucket.
    Scatter { _send: Vec<bf16>, pieces: Vec<bf16> },
    /// bf16, second half: every rank gets every rank's sum.
    Gather { _sum: Vec<bf16>, all: Vec<bf16> },
}

fn count(n: usize) -> c_int {
    c_int::try_from(n).expect("a bucket has fewer than 2^31 values")
}

fn check(code: c_int) {
    // MPI's default error handler ends the job itself; this is for libraries that return instead.
    assert_eq!(code, 0, "MPI returned the error {code}");
}

fn assert_is_bucket(tensor: &Tensor) {
    assert!(tensor.device() == Device::Cpu && tensor.is_contiguous() && tensor.dim() == 1);
}

impl PendingCollective {
    pub fn begin(mut call: Call, size: usize) -> Self {
        // SAFETY: a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        let stage = match &mut call {
            Call::Sum(bucket) if bucket.kind() == Kind::BFloat16 => {
                scatter(bucket, size, &mut request)
            }
            Call::Sum(bucket) => sum_bucket(bucket, &mut request),
            Call::Numbers(values, op) => reduce_numbers(values, *op, &mut request),
            Call::Broadcast(bytes) => {
                let (at, n) = (bytes.as_mut_ptr().cast::<c_void>(), count(bytes.len()));
                // SAFETY: the buffer holds `n` bytes and lives in the `Call` until the request is
                // complete.
                check(unsafe {
                    let (kind, comm) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
                    ffi::MPI_Ibcast(at, n, kind, 0, comm, &raw mut request)
                });
                Stage::Direct { _send: Box::new(()) }
            }
            Call::Barrier => {
                // SAFETY: no buffers.
                check(unsafe { ffi::MPI_Ibarrier(ffi::RSMPI_COMM_WORLD, &raw mut request) });
                Stage::Direct { _send: Box::new(()) }
            }
        };
        Self { call, request, stage, size }
    }

    /// Whether its second half has not started yet.
    pub fn in_first_half(&self) -> bool {
        matches!(self.stage, Stage::Scatter { .. })
    }

    /// Lets MPI work; whether the call is complete. A second half starts only where its
    /// communicator, `second_halves`, is given.
    pub fn test(&mut self, second_halves: Option<ffi::MPI_Comm>) -> bool {
        let mut flag = 0;
        // SAFETY: the request is pending, and its buffers live in `self`.
        check(unsafe {
            ffi::MPI_Test(&raw mut self.request, &raw mut flag, ffi::RSMPI_STATUS_IGNORE)
        });
        if flag == 0 {
            return false;
        }
        match &mut self.stage {
            Stage::Direct { .. } => true,
            Stage::Scatter { pieces, .. } => {
                if let Some(comm) = second_halves {
                    let sum = sum(pieces, self.size);
                    self.stage = gather(sum, self.size, comm, &mut self.request);
                }
                false
            }
            Stage::Gather { all, .. } => {
                if let Call::Sum(bucket) = &self.call {
                    // SAFETY: the bucket holds its number of bf16 values, and `all` at least as
                    // many.
                    unsafe {
                        let to = bucket.data_ptr().cast();
                        std::ptr::copy_nonoverlapping(all.as_ptr(), to, bucket.numel())
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

/// A second communicator of all ranks. All ranks call it.
pub fn duplicate_world() -> ffi::MPI_Comm {
    // SAFETY: constants of the library; every rank's communication thread makes this call first.
    unsafe {
        let mut comm = ffi::RSMPI_COMM_NULL;
        check(ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &raw mut comm));
        comm
    }
}

/// Starts the sum of an f32 or f64 bucket.
fn sum_bucket(bucket: &Tensor, request: &mut ffi::MPI_Request) -> Stage {
    assert_is_bucket(bucket);
    let send = bucket.copy();
    let (from, to, n) = (send.data_ptr(), bucket.data_ptr(), count(bucket.numel()));
    // SAFETY: both buffers hold `n` values of that type and live in the `PendingCollective` until
    // the request is complete.
    check(unsafe {
        let kind = match bucket.kind() {
            Kind::Double => ffi::RSMPI_DOUBLE,
            _ => ffi::RSMPI_FLOAT,
        };
        let (op, comm) = (ffi::RSMPI_SUM, ffi::RSMPI_COMM_WORLD);
        ffi::MPI_Iallreduce(from, to, n, kind, op, comm, request)
    });
    Stage::Direct { _send: Box::new(send) }
}

/// Starts to combine a few numbers.
fn reduce_numbers(values: &mut [f64], op: Op, request: &mut ffi::MPI_Request) -> Stage {
    let send = values.to_vec();
    let (from, to, n) = (send.as_ptr().cast(), values.as_mut_ptr().cast(), count(values.len()));
    // SAFETY: as in `sum_bucket`.
    check(unsafe {
        let op = if op == Op::Sum { ffi::RSMPI_SUM } else { ffi::RSMPI_MAX };
        let (kind, comm) = (ffi::RSMPI_DOUBLE, ffi::RSMPI_COMM_WORLD);
        ffi::MPI_Iallreduce(from, to, n, kind, op, comm, request)
    });
    Stage::Direct { _send: Box::new(send) }
}

/// Starts the sum of a bf16 bucket. MPI has no bf16, and a sum in bf16 would round at every rank.
/// So each rank collects its piece of the bucket from all ranks, sums it in f32 and sends it to
/// all: as many bytes as a ring would move, and half of those of f32.
fn scatter(bucket: &Tensor, size: usize, request: &mut ffi::MPI_Request) -> Stage {
    assert_is_bucket(bucket);
    let piece = bucket.numel().div_ceil(size);
    let mut send = vec![bf16::ZERO; piece * size];
    let mut pieces = vec![bf16::ZERO; piece * size];
    // SAFETY: the bucket holds its number of bf16 values, and `send` at least as many.
    unsafe {
        std::ptr::copy_nonoverlapping(bucket.data_ptr().cast(), send.as_mut_ptr(), bucket.numel())
    };
    let (from, to, n) = (send.as_ptr().cast(), pieces.as_mut_ptr().cast(), count(piece));
    // SAFETY: both buffers hold `size` pieces of `n` values of 16 bits and live in the
    // `PendingCollective` until the request is complete.
    check(unsafe {
        let kind = ffi::RSMPI_UINT16_T;
        ffi::MPI_Ialltoall(from, n, kind, to, n, kind, ffi::RSMPI_COMM_WORLD, request)
    });
    Stage::Scatter { _send: send, pieces }
}

/// Starts the second half: sends this rank's `sum` to all ranks.
fn gather(
    sum: Vec<bf16>,
    size: usize,
    comm: ffi::MPI_Comm,
    request: &mut ffi::MPI_Request,
) -> Stage {
    let mut all = vec![bf16::ZERO; sum.len() * size];
    let (from, to, n) = (sum.as_ptr().cast(), all.as_mut_ptr().cast(), count(sum.len()));
    // SAFETY: the buffers hold one and `size` pieces of `n` values of 16 bits and live in the
    // `PendingCollective` until the request is complete.
    check(unsafe {
        let kind = ffi::RSMPI_UINT16_T;
        ffi::MPI_Iallgather(from, n, kind, to, n, kind, comm, request)
    });
    Stage::Gather { _sum: sum, all }
}

/// The sum of `size` consecutive pieces, in f32, in the order of the ranks.
fn sum(pieces: &[bf16], size: usize) -> Vec<bf16> {
    let n = pieces.len() / size;
    let sum = |i: usize| (0..size).map(|rank| pieces[rank * n + i].to_f32()).sum::<f32>();
    (0..n).map(|i| bf16::from_f32(sum(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For bits spread over all exponents and mantissas.
    #[test]
    fn bf16_is_rounded_as_libtorch_does() {
        let values: Vec<f32> = (0..1u32 << 20)
            .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)))
            .filter(|x| !x.is_nan())
            .collect();
        let by_libtorch = Tensor::from_slice(&values).to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let mut expected = vec![0f32; values.len()];
        by_libtorch.copy_data(&mut expected, values.len());
        for (x, y) in values.iter().zip(expected) {
            assert_eq!(bf16::from_f32(*x).to_f32().to_bits(), y.to_bits(), "{x}");
        }
    }

    #[test]
    fn pieces_are_summed_in_f32() {
        // 256 + 1 + 1 is 258 in f32; in bf16, 256 + 1 stays 256.
        let pieces = [256.0, 2.0, 1.0, 0.5, 1.0, 0.25].map(bf16::from_f32);
        assert_eq!(sum(&pieces, 3), [258.0, 2.75].map(bf16::from_f32));
    }
}
