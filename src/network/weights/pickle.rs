//! Reads Python's pickles as far as PyTorch's checkpoints need it. A pickle is a program that may
//! call anything; this reader calls nothing: it knows the few constructors of tensors by name, and
//! of every other call it notes only what would have been called, so that settings, metrics and
//! optimisers beside the weights are passed over. Objects are kept in one list and refer to each
//! other by position, so that nothing here recurses, however deep a file nests.

mod calls;
mod machine;
mod objects;

use self::machine::{CUT, Machine};
pub use self::objects::{Object, Pickle, Storage, TensorView, Value};

/// The content of the pickle at the start of `bytes`, and what comes after it.
///
/// # Errors
/// In words: the pickle is cut off, broken or far too large for a checkpoint.
pub fn parse(bytes: &[u8]) -> Result<(Pickle, &[u8]), String> {
    let mut machine = Machine::new(bytes);
    loop {
        let at = bytes.len() - machine.rest.len();
        let opcode = machine.take(1)?[0];
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok((Pickle { root, ..machine.read }, machine.rest));
        }
        step(&mut machine, opcode).map_err(|what| format!("{what} (byte {at} of the pickle)"))?;
    }
}

/// Of the binary protocols, 1 to 5.
fn step(machine: &mut Machine, opcode: u8) -> Result<(), String> {
    match opcode {
        0x80 => check_protocol(machine)?,
        // Frames are a hint for readers of streams, and so is the read-only mark of a buffer.
        0x95 => {
            machine.take(8)?;
        }
        0x98 => {}
        b'(' => machine.marks.push(machine.stack.len()),
        b'}' | b']' | b')' | b't' | b'l' | b'd' | 0x85..=0x87 | 0x8f | 0x91 => {
            make_collection(machine, opcode)?;
        }
        b'a' | b'e' | 0x90 => {
            let items = if opcode == b'a' { machine.last(1)? } else { machine.since_mark()? };
            machine.append(items)?;
        }
        b's' | b'u' => {
            let items = if opcode == b's' { machine.last(2)? } else { machine.since_mark()? };
            machine.set(&items)?;
        }
        b'q' | b'r' => {
            let key = machine.number(if opcode == b'q' { 1 } else { 4 })?;
            machine.remember(key)?;
        }
        0x94 => machine.remember(machine.memo.len() as u64)?,
        b'h' | b'j' => machine.recall(if opcode == b'h' { 1 } else { 4 })?,
        b'0' => {
            machine.pop()?;
        }
        b'1' => {
            machine.since_mark()?;
        }
        b'2' => {
            let top = machine.top()?;
            machine.stack.push(top);
        }
        b'c' | 0x93 => calls::global(machine, opcode)?,
        b'Q' => calls::storage(machine)?,
        b'R' | 0x81 | 0x92 | b'o' => calls::call(machine, opcode)?,
        b'b' => calls::build(machine)?,
        // A class of copyreg's extension registry, by its number.
        0x82 => extension(machine, 1)?,
        0x83 => extension(machine, 2)?,
        0x84 => extension(machine, 4)?,
        _ => scalar(machine, opcode)?,
    }
    Ok(())
}

fn check_protocol(machine: &mut Machine) -> Result<(), String> {
    match machine.take(1)?[0] {
        1..=5 => Ok(()),
        n => Err(format!("pickle protocol {n}; expected 2 to 5")),
    }
}

fn make_collection(machine: &mut Machine, opcode: u8) -> Result<(), String> {
    let items = match opcode {
        b't' | b'l' | b'd' | 0x91 => machine.since_mark()?,
        0x85..=0x87 => machine.last(usize::from(opcode - 0x84))?,
        _ => Vec::new(),
    };
    match opcode {
        b'}' | b'd' => {
            machine.push(Object::Dict(Vec::new()))?;
            machine.set(&items)
        }
        _ => machine.push(Object::Sequence(items)),
    }
}

fn extension(machine: &mut Machine, bytes: usize) -> Result<(), String> {
    let code = machine.number(bytes)?;
    machine.push(Object::Global(format!("extension {code}")))
}

/// Numbers, texts and bytes. Of bytes, only those are kept that Python 2 wrote for a text.
fn scalar(machine: &mut Machine, opcode: u8) -> Result<(), String> {
    let length_of_length = match opcode {
        b'N' | 0x88 | 0x89 | 0x97 => 0,
        b'X' | b'T' | b'B' | 0x8b => 4,
        b'U' | b'C' | 0x8a | 0x8c => 1,
        0x8d | 0x8e | 0x96 => 8,
        b'K' => return machine.int(1),
        b'M' => return machine.int(2),
        b'J' => return machine.int(4),
        b'G' => {
            machine.take(8)?;
            0
        }
        _ => return Err(format!("the pickle opcode 0x{opcode:02x}, which PyTorch never writes")),
    };
    let length = usize::try_from(machine.number(length_of_length)?).map_err(|_| CUT)?;
    let bytes = machine.take(length)?;
    match opcode {
        b'X' | b'T' | b'U' | 0x8c | 0x8d => match std::str::from_utf8(bytes) {
            Ok(text) => return machine.push(Object::Text(text.into())),
            Err(_) => machine.stack.push(Value::Other),
        },
        0x8a | 0x8b => machine.stack.push(long(bytes)),
        _ => machine.stack.push(Value::Other),
    }
    Ok(())
}

/// An integer of up to eight bytes, in two's complement. Larger ones (such as seeds) describe no
/// tensor.
fn long(bytes: &[u8]) -> Value {
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        }
        None => Value::Other,
    }
}

#[cfg(test)]
mod tests;
