//! Memory for pixels that a thread uses again for its next image.

use std::cell::RefCell;

thread_local! {
    /// Buffers that this thread does not need any more. New memory comes page by page and filled
    /// with zeros, which takes a third of the time of decoding.
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers that a thread keeps: a sample's four planes, and the rows that one of them is made of.
const KEPT: usize = 5;

/// `size` bytes of any value.
pub(super) fn buffer(size: usize) -> Vec<u8> {
    let mut buffer = FREE.with_borrow_mut(|free| {
        let fits = free.iter().position(|buffer| buffer.len() >= size);
        fits.map(|i| free.swap_remove(i)).or_else(|| free.pop()).unwrap_or_default()
    });
    buffer.resize(size, 0);
    buffer
}

/// Keeps the memory of `pixels` for the next images that this thread decodes, where it is not too
/// much.
pub fn reuse(pixels: Vec<u8>) {
    FREE.with_borrow_mut(|free| {
        if pixels.len() <= 16 << 20 && free.len() < KEPT {
            free.push(pixels);
        }
    });
}
