//! Reads the part of Python's pickle language (protocol 2) in which PyTorch writes a state dict. A
//! pickle is a program that may call anything; this reader calls nothing: it knows the few
//! constructors of tensors by name and refuses all others. Objects are kept in one list and refer
//! to each other by position, so that nothing here recurses, however deep a file nests.

mod objects;

use std::collections::HashMap;

use self::objects::Object;
pub use self::objects::{Pickle, STORAGES, Storage, TensorView, Value};

const ORDERED_DICT: &str = "collections.OrderedDict";
const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER: &str = "torch._utils._rebuild_parameter";
const GLOBALS: [&str; 3] = [ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER];

/// # Errors
/// In words: the pickle is truncated or broken, or needs something that a state dict does not.
pub fn parse(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine = Machine {
        rest: bytes,
        read: Pickle::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = bytes.len() - machine.rest.len();
        let opcode = machine.take(1)?[0];
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { root, ..machine.read });
        }
        machine.step(opcode).map_err(|what| format!("{what} (byte {at} of data.pkl)"))?;
    }
}

/// A pickle while it is read.
struct Machine<'a> {
    rest: &'a [u8],
    read: Pickle,
    stack: Vec<Value>,
    /// The positions of the open marks on the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

/// Letters of a storage's key, which is a number, and axes of a tensor; no real file has more.
const MAX_KEY: usize = 20;
const MAX_AXES: usize = 8;

const CUT: &str = "the pickle is cut off or broken";

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => self.check_protocol()?,
            b'(' => self.marks.push(self.stack.len()),
            b'}' | b']' | b')' | b't' | 0x85..=0x87 | b'a' | b'e' | b's' | b'u' => {
                self.collection(opcode)?;
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'X' => self.text()?,
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let n = self.number(4)? as i32;
                self.stack.push(Value::Int(n.into()));
            }
            0x8a => self.long()?,
            b'c' => self.global()?,
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            b'b' => self.build()?,
            _ => {
                return Err(format!("the pickle opcode 0x{opcode:02x}, which no state dict needs"));
            }
        }
        Ok(())
    }

    fn check_protocol(&mut self) -> Result<(), String> {
        match self.take(1)?[0] {
            2 => Ok(()),
            n => {
                Err(format!("pickle protocol {n}; expected 2, which torch.save writes by default"))
            }
        }
    }

    /// Makes or extends a tuple, list or dictionary.
    fn collection(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b't' | b'e' | b'u' => self.since_mark()?,
            b'a' => self.last(1)?,
            b's' => self.last(2)?,
            0x85..=0x87 => self.last(usize::from(opcode - 0x84))?,
            _ => Vec::new(),
        };
        match opcode {
            b'}' => self.push(Object::Dict(Vec::new())),
            b'a' | b'e' => self.append(items)?,
            b's' | b'u' => self.set(&items)?,
            _ => self.push(Object::Sequence(items)),
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), String> {
        let length = self.number(4)?;
        let text = std::str::from_utf8(self.take(length as usize)?)
            .map_err(|_| "a text that is not UTF-8")?;
        self.push(Object::Text(text.into()));
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(CUT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A little-endian number of up to four bytes.
    fn number(&mut self, bytes: usize) -> Result<u32, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or(CUT)?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "a name that is not UTF-8".into())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(Value::Object(self.read.objects.len()));
        self.read.objects.push(object);
    }

    /// The position of the last `n` values on the stack; never below the last mark.
    fn below(&self, n: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.len().checked_sub(n).filter(|&from| from >= floor).ok_or_else(|| CUT.into())
    }

    fn last(&mut self, n: usize) -> Result<Vec<Value>, String> {
        let from = self.below(n)?;
        Ok(self.stack.split_off(from))
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.below(1)?;
        self.stack.pop().ok_or_else(|| CUT.into())
    }

    fn top(&mut self) -> Result<&mut Object, String> {
        let from = self.below(1)?;
        let Value::Object(at) = self.stack[from] else { return Err(CUT.into()) };
        Ok(&mut self.read.objects[at])
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or(CUT)?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Object::Sequence(list) = self.top()? else { return Err(CUT.into()) };
        list.extend(items);
        Ok(())
    }

    fn set(&mut self, items: &[Value]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else { return Err(CUT.into()) };
        let Object::Dict(dict) = self.top()? else { return Err(CUT.into()) };
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn remember(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        let from = self.below(1)?;
        self.memo.insert(key, self.stack[from]);
        Ok(())
    }

    fn recall(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        self.stack.push(*self.memo.get(&key).ok_or(CUT)?);
        Ok(())
    }

    fn int(&mut self, bytes: usize) -> Result<(), String> {
        let n = self.number(bytes)?;
        self.stack.push(Value::Int(n.into()));
        Ok(())
    }

    /// An integer of up to eight bytes, in two's complement. Larger ones (such as seeds) describe
    /// no tensor.
    fn long(&mut self) -> Result<(), String> {
        let length = self.number(1)? as usize;
        let bytes = self.take(length)?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        self.stack.push(match wide.get_mut(..length) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            None => Value::Other,
        });
        Ok(())
    }

    fn global(&mut self) -> Result<(), String> {
        let name = format!("{}.{}", self.line()?, self.line()?);
        if !GLOBALS.contains(&name.as_str()) && !STORAGES.contains(&name.as_str()) {
            let name: String = name.chars().take(100).flat_map(char::escape_default).collect();
            return Err(format!("it needs `{name}`, which is not part of a state dict of tensors"));
        }
        self.push(Object::Global(name));
        Ok(())
    }

    /// The persistent id `("storage", kind, key, device, numbers)`.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Some(&[tag, kind, key, _, Value::Int(len)]) = self.read.sequence(id) else {
            return Err(CUT.into());
        };
        let kind = self.read.global(kind).and_then(|name| STORAGES.iter().position(|s| *s == name));
        let (Some("storage"), Some(kind), Some(key)) =
            (self.read.text(tag), kind, self.read.text(key))
        else {
            return Err(CUT.into());
        };
        // A short key cannot be made large by many references to it.
        if key.len() > MAX_KEY {
            return Err(CUT.into());
        }
        let key = key.to_string();
        self.push(Object::Storage(Storage { kind, key, len }));
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Some(function), Some(arguments)) =
            (self.read.global(function), self.read.sequence(arguments))
        else {
            return Err(CUT.into());
        };
        match (function, arguments) {
            (ORDERED_DICT, []) => self.push(Object::Dict(Vec::new())),
            (REBUILD_TENSOR, &[storage, Value::Int(offset), size, stride, ..]) => {
                let Some(Object::Storage(storage)) = self.read.object(storage) else {
                    return Err(CUT.into());
                };
                let view = TensorView {
                    storage: storage.clone(),
                    offset,
                    size: self.ints(size)?,
                    stride: self.ints(stride)?,
                };
                self.push(Object::Tensor(view));
            }
            (REBUILD_PARAMETER, &[tensor, ..]) if self.read.view(tensor).is_some() => {
                self.stack.push(tensor);
            }
            (name, _) => {
                return Err(format!(
                    "a call of `{name}` with arguments that a state dict does not give it"
                ));
            }
        }
        Ok(())
    }

    fn ints(&self, value: Value) -> Result<Vec<i64>, String> {
        let int = |v: &Value| match v {
            Value::Int(n) => Some(*n),
            _ => None,
        };
        let items = self.read.sequence(value).filter(|items| items.len() <= MAX_AXES);
        items.and_then(|items| items.iter().map(int).collect()).ok_or_else(|| CUT.into())
    }

    /// Drops the attributes of a dictionary (`_metadata`, the versions of modules); nothing else
    /// has any.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top()? {
            Object::Dict(_) => Ok(()),
            _ => Err("attributes of something that is not a dictionary".into()),
        }
    }
}

#[cfg(test)]
mod tests;
