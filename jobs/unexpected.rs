//! How the program ends where no error can be returned: after a panic, an exception of C++ that
//! nothing catches, or an allocation that fails.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ffi::{CStr, c_char},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use atlas::{
    base::{caught, thrown},
    distributed::{self, watchdog},
    network::autograd,
};
use signal_hook::{consts::SIGABRT, low_level};

use crate::common::complain;

/// Sets up all of these endings: exit code 1 for what libraries throw and the system refuses, 70
/// for a bug; for all ranks.
pub fn set_up() -> std::io::Result<()> {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if caught::is_caught() {
            return; // it becomes the error of one picture
        }
        match info.payload_as_str().and_then(thrown::error_of) {
            Some(_) if thrown::is_caught() => {}
            Some(error) => end(1, &error.to_string()),
            None => {
                default(info);
                end(70, "this is a bug; please report it with the lines above");
            }
        }
    }));
    autograd::on_terminate(exception);
    // SAFETY: where an allocation failed, `aborted` does more than a handler may do at any time,
    // but it runs in the thread that calls abort(), between two statements of the code that failed
    // to allocate. Otherwise it does only what a handler may do.
    unsafe { low_level::register(SIGABRT, aborted) }.map(drop)
}

/// Says `what` with the rank, and ends all of them.
fn end(code: i32, what: &str) -> ! {
    let place = watchdog::place().map_or(String::new(), |place| format!("{place}: "));
    complain(format!("{place}{what}"));
    distributed::abort(code)
}

unsafe extern "C" fn exception(what: *const c_char) {
    // SAFETY: the text of an exception, which lives until this returns.
    let what = unsafe { CStr::from_ptr(what) }.to_string_lossy();
    end(1, &thrown::libtorch_error(&what).to_string());
}

/// How long the message of a failed allocation may take.
const TO_COMPLAIN: Duration = Duration::from_secs(2);

/// Rust's standard library aborts where an allocation fails, after a line of its own.
fn aborted() {
    static BEFORE: AtomicBool = AtomicBool::new(false);
    let Some(bytes) = REFUSED.get() else {
        let _ = low_level::emulate_default_handler(SIGABRT); // another reason, or from outside
        return;
    };
    if BEFORE.swap(true, Relaxed) {
        // Another thread is making the message, or this one was and cannot.
        std::thread::sleep(TO_COMPLAIN);
        // SAFETY: ends the process without running anything more.
        unsafe { libc::_exit(1) }
    }
    end(1, &thrown::out_of_memory(bytes));
}

thread_local! {
    /// How many bytes this thread was refused last.
    static REFUSED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The system's allocator, which remembers what it refused.
pub struct Allocator;

fn noted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        REFUSED.set(Some(bytes));
    }
    pointer
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as of the caller.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as of the caller.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as of the caller.
        noted(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as of the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}
