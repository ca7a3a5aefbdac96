//! Panics of code that is not ours, as errors.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `call`, which must not start threads; its panic becomes an error with the panic's message.
///
/// # Errors
/// The message of a panic.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let before = ACTIVE.replace(true);
    // What a panic leaves half changed belongs to `call`, and nobody sees it again.
    let result = catch_unwind(AssertUnwindSafe(call));
    ACTIVE.set(before);
    result.map_err(|panic| panic_message(&*panic).into())
}

/// Whether a panic of this thread would become an error of [`caught`], for the program's panic
/// hook, which ends the process at all others.
pub fn is_caught() -> bool {
    ACTIVE.get()
}

pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert!(!is_caught());
        let inner = || {
            assert!(is_caught() && caught(|| 1) == Ok(1) && is_caught());
            let none: [u8; 0] = [];
            none[std::hint::black_box(3)]
        };
        assert!(caught(inner).unwrap_err().contains("index is 3"));
        assert!(!is_caught());
    }
}
