//! What libraries throw: memory and threads that the system refuses, and libtorch's exceptions,
//! which most functions of `tch` turn into panics. Each becomes one line with the operation, what
//! was asked for and the keys to change, in one of three ways:
//!
//! * [`catch`] around the work of a job turns such a panic into an [`Error`], with which the job
//!   ends in order, and a server goes on.
//! * The program's panic hook asks [`error_of`] whether a panic elsewhere is one of them.
//! * Where nothing can unwind (an allocation of our own that fails, a C++ exception that nobody
//!   catches), the program ends with [`out_of_memory`] or [`error_of`].

use std::{
    cell::Cell,
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use super::{Error, Result, caught::panic_message, thread_pool::MORE_THREADS};

/// Work for which libraries need memory.
pub struct Operation {
    name: &'static str,
    /// How it is made to need less.
    remedy: &'static str,
}

pub static TRAINING: Operation =
    Operation { name: "training", remedy: "lower train.micro_batch, train.batch or augment.crop" };
pub static PREDICTION: Operation = Operation {
    name: "prediction",
    remedy: "lower predict.batch or augment.crop, or set predict.tta to fewer views",
};
pub static ONE_IMAGE: Operation =
    Operation { name: "prediction of one image", remedy: "lower augment.resize" };
pub static FORWARD: Operation =
    Operation { name: "forward pass", remedy: "put fewer or smaller images into --input" };
pub static WEIGHTS: Operation =
    Operation { name: "reading of the weights", remedy: "use a machine with more memory" };
static ANY: Operation =
    Operation { name: "this job", remedy: "lower `threads`, or use a machine with more memory" };

/// What the process is doing: panics of threads without a [`catch`] of their own belong to it, too.
static CURRENT: AtomicPtr<Operation> = AtomicPtr::new((&raw const ANY).cast_mut());

thread_local! {
    /// What this thread does in a [`catch`].
    static CATCHING: Cell<Option<&'static Operation>> = const { Cell::new(None) };
}

/// Whether a [`catch`] of this thread is going to turn what a library throws into an error.
pub fn is_caught() -> bool {
    CATCHING.get().is_some()
}

/// Does `work`; a panic of it that a library caused is returned as an error.
///
/// # Errors
/// Those of `work`, and Failed for what a library throws.
pub fn catch<T, E: From<Error>>(
    operation: &'static Operation,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let before = CURRENT.swap(std::ptr::from_ref(operation).cast_mut(), Relaxed);
    let caught_before = CATCHING.replace(Some(operation));
    let result = catch_unwind(AssertUnwindSafe(work)).or_else(|panic| {
        let error = error_of(panic_message(&*panic));
        error.map(|error| Err(error.into())).ok_or(panic)
    });
    CURRENT.store(before, Relaxed);
    CATCHING.set(caught_before);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does `work` that a library calls and that cannot unwind: a panic in it ends the process.
pub fn uncaught<T>(work: impl FnOnce() -> T) -> T {
    let before = CATCHING.replace(None);
    let result = work();
    CATCHING.set(before);
    result
}

/// How `tch` shows an exception of libtorch in a panic: followed by its text, escaped.
const LIBTORCH: &str = "Torch(\"";

/// The error that a panic of this message stands for; `None` where no library threw anything, so
/// that the panic is a bug.
pub fn error_of(panic: &str) -> Option<Error> {
    let libtorch = panic.split_once(LIBTORCH).map(|(_, text)| text.replace("\\n", "\n"));
    let text = libtorch.as_deref().unwrap_or(panic);
    match refused(text) {
        None if libtorch.is_none() => None,
        _ => Some(libtorch_error(text)),
    }
}

/// For an exception of libtorch with this text, whose first line has the cause; its C++ stack may
/// follow.
pub fn libtorch_error(text: &str) -> Error {
    let name = current().name;
    Error::failed(match refused(text) {
        Some(refused) => format!("{name}: {refused}"),
        None => {
            let line = text.lines().next().unwrap_or(text).trim_end_matches("\")");
            format!("{name}: libtorch: {}", line.replace("\\\"", "\""))
        }
    })
}

impl From<tch::TchError> for Error {
    fn from(e: tch::TchError) -> Self {
        match e {
            tch::TchError::Torch(text) => libtorch_error(&text),
            other => libtorch_error(&other.to_string()),
        }
    }
}

fn current() -> &'static Operation {
    // SAFETY: it only ever holds addresses of statics.
    CATCHING.get().unwrap_or_else(|| unsafe { &*CURRENT.load(Relaxed) })
}

/// What the system refused according to a library's text, and what to do; `None` where it is about
/// something else.
fn refused(text: &str) -> Option<String> {
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if has(&["Too many open files"]) {
        return Some("too many open files; raise the limit (ulimit -n)".into());
    }
    // Of a thread: libraries say it of nothing else.
    if has(&["Resource temporarily unavailable", "WouldBlock"]) {
        return Some(format!("a thread could not be started; {MORE_THREADS}"));
    }
    let of_memory = [
        "out of memory",
        "can't allocate memory",
        "Cannot allocate memory",
        "bad_alloc",
        "ALLOC_FAILED",
        "could not create a memory",
    ];
    has(&of_memory).then(|| {
        let after = |sign: &str| Some(text.split_once(sign)?.1);
        // "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        let on_gpu = after("Tried to allocate ").and_then(|rest| rest.split_once(". "));
        let on_cpu = after("you tried to allocate ").and_then(|rest| rest.split_once(" bytes"));
        let asked = match (on_gpu, on_cpu.and_then(|(bytes, _)| bytes.parse().ok())) {
            (Some((asked, _)), _) => format!("{asked} on the GPU"),
            (None, Some(bytes)) => gigabytes(bytes),
            (None, None) => String::new(),
        };
        memory_message(&asked)
    })
}

/// The message where `bytes` could not be had.
pub fn out_of_memory(bytes: usize) -> String {
    format!("{}: {}", current().name, memory_message(&gigabytes(bytes as f64)))
}

/// An empty vector with room for `bytes`, for what may be too large for this machine.
///
/// # Errors
/// Failed where there is no memory for it.
pub fn reserve(bytes: usize) -> Result<Vec<u8>> {
    let mut room = Vec::new();
    room.try_reserve_exact(bytes).map_err(|_| Error::failed(out_of_memory(bytes)))?;
    Ok(room)
}

/// `asked`: how much, if it is known.
fn memory_message(asked: &str) -> String {
    let mut text = String::from("out of memory");
    if !asked.is_empty() {
        let _ = write!(text, " when asking for {asked} more"); // a String takes everything
    }
    text + "; " + current().remedy
}

fn gigabytes(bytes: f64) -> String {
    match bytes / 1e9 {
        small if small < 0.01 => format!("{:.3} GB", small.max(0.001)),
        gb => format!("{gb:.2} GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at \
        alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
        allocate 462422016 bytes. Error code 12 (Cannot allocate memory)\\nframe #0: c10::f\")";
    const GPU: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. \
        Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.20 GiB is \
        free. Including non-PyTorch memory, this process has 77.9 GiB memory in use.\\nException \
        raised from malloc\")";

    fn thrown(operation: &'static Operation, text: &'static str) -> String {
        let error = catch(operation, || -> Result<()> { panic!("{text}") }).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.contains("frame #0"), "{text}");
        text
    }

    #[test]
    fn what_libraries_throw_is_one_line_with_the_amount_and_the_key() {
        let has = |text: &str, parts: &[&str]| {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}: {parts:?}");
        };
        has(&thrown(&TRAINING, CPU), &["training", "0.46 GB", "train.batch", "augment.crop"]);
        has(&thrown(&PREDICTION, GPU), &["prediction", "2.00 GiB", "GPU", "predict.batch"]);
        let other =
            "x: Torch(\"CUDA error: an illegal \\\"memory\\\" access\\nCUDA kernel errors\")";
        has(&thrown(&FORWARD, other), &["forward", "libtorch", "illegal \"memory\" access"]);
        for no_size in ["y: Torch(\"std::bad_alloc\")", "Torch(\"CUBLAS_STATUS_ALLOC_FAILED\")"] {
            has(&thrown(&TRAINING, no_size), &["out of memory", "train.batch"]);
        }
        let threads = "failed to spawn thread: Os { code: 11, kind: WouldBlock, message: \
            \"Resource temporarily unavailable\" }";
        has(&thrown(&PREDICTION, threads), &["thread", "`threads`", "ulimit -u"]);
        has(&thrown(&PREDICTION, "Os { code: 24, message: \"Too many open files\" }"), &["ulimit"]);
        let e: Error = tch::TchError::Torch("bad shape\nframe #0".into()).into();
        assert!(e.to_string().ends_with("libtorch: bad shape"), "{e}");
    }

    #[test]
    fn room_that_there_cannot_be_is_an_error() {
        assert_eq!(reserve(5).unwrap().capacity(), 5);
        let e = catch(&PREDICTION, || reserve(1 << 62)).unwrap_err();
        assert!(["4611686018.43 GB", "predict.batch"].iter().all(|p| e.to_string().contains(p)));
    }

    #[test]
    fn a_panic_of_our_own_stays_one() {
        assert!(error_of("index out of bounds: the len is 3 but the index is 3").is_none());
        let ours = || catch(&TRAINING, || -> Result<()> { panic!("ours") });
        let panic = catch_unwind(ours).unwrap_err();
        assert_eq!(panic_message(&*panic), "ours");
        assert!(!is_caught());
    }

    #[test]
    fn nothing_is_caught_inside_a_call_from_a_library() {
        let seen = || Ok((is_caught(), uncaught(is_caught), is_caught()));
        assert_eq!(catch::<_, Error>(&TRAINING, seen).unwrap(), (true, false, true));
    }
}
