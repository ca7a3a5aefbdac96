//! Readers with faults on purpose: `check` sees that each kind of finding is found.

use std::process;

/// Does what the word says.
pub fn faulty(bytes: &[u8]) {
    match bytes {
        b"panic" => panic!("on purpose"),
        b"abort" => process::abort(),
        b"hang" => while std::hint::black_box(true) {},
        b"memory" => drop(std::hint::black_box(vec![1u8; 3 << 29])),
        b"memory that is not there" => {
            drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 40)))
        }
        _ => {}
    }
}
