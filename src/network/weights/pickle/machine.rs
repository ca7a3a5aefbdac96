//! The stack on which a pickle builds its objects, and the memo of those that it refers to again.

use std::collections::HashMap;

use super::objects::{Object, Pickle, Value};

/// Objects of a pickle, so that a small file cannot take much memory; a checkpoint of a ResNeXt-101
/// with its optimiser has thirty thousand.
const MAX_OBJECTS: usize = 1_000_000;

pub const CUT: &str = "the pickle is cut off or broken";

/// A pickle while it is read.
pub struct Machine<'a> {
    pub rest: &'a [u8],
    pub read: Pickle,
    pub stack: Vec<Value>,
    /// The positions of the open marks on the stack.
    pub marks: Vec<usize>,
    pub memo: HashMap<u64, Value>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            read: Pickle::default(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(CUT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A little-endian number of up to eight bytes.
    pub fn number(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// An integer of one or two bytes, or of four bytes with a sign.
    pub fn int(&mut self, bytes: usize) -> Result<(), String> {
        let n = self.number(bytes)?;
        let n = if bytes == 4 { i64::from(n as u32 as i32) } else { n as i64 };
        self.stack.push(Value::Int(n));
        Ok(())
    }

    pub fn line(&mut self) -> Result<&'a str, String> {
        let end = self.rest.iter().position(|&b| b == b'\n').ok_or(CUT)?;
        let line = self.take(end + 1)?;
        std::str::from_utf8(&line[..end]).map_err(|_| "a name that is not UTF-8".into())
    }

    pub fn push(&mut self, object: Object) -> Result<(), String> {
        if self.read.objects.len() == MAX_OBJECTS {
            return Err(format!("more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(Value::Object(self.read.objects.len()));
        self.read.objects.push(object);
        Ok(())
    }

    /// The position of the last `n` values on the stack; never below the last mark.
    fn below(&self, n: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.len().checked_sub(n).filter(|&from| from >= floor).ok_or_else(|| CUT.into())
    }

    /// Takes the values from a position on. Not by `split_off`, which may hand out the capacity of
    /// the whole stack each time.
    fn above(&mut self, from: usize) -> Vec<Value> {
        self.stack.drain(from..).collect()
    }

    pub fn last(&mut self, n: usize) -> Result<Vec<Value>, String> {
        let from = self.below(n)?;
        Ok(self.above(from))
    }

    pub fn pop(&mut self) -> Result<Value, String> {
        self.below(1)?;
        self.stack.pop().ok_or_else(|| CUT.into())
    }

    pub fn top(&self) -> Result<Value, String> {
        Ok(self.stack[self.below(1)?])
    }

    /// The object on top of the stack, if it is one.
    pub fn top_object(&mut self) -> Result<Option<&mut Object>, String> {
        Ok(match self.top()? {
            Value::Object(at) => Some(&mut self.read.objects[at]),
            _ => None,
        })
    }

    pub fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or(CUT)?;
        Ok(self.above(mark))
    }

    /// Items of anything but a list or set describe no tensor.
    pub fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        if let Some(Object::Sequence(list)) = self.top_object()? {
            list.extend(items);
        }
        Ok(())
    }

    /// Any object that is given pairs is a dictionary, whatever its class is called.
    pub fn set(&mut self, items: &[Value]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else { return Err(CUT.into()) };
        let pairs = pairs.iter().map(|&[key, value]| (key, value));
        match self.top_object()? {
            Some(Object::Dict(dict)) => dict.extend(pairs),
            Some(object @ Object::Opaque { .. }) => *object = Object::Dict(pairs.collect()),
            _ => {}
        }
        Ok(())
    }

    pub fn remember(&mut self, key: u64) -> Result<(), String> {
        let value = self.top()?;
        if self.memo.len() == MAX_OBJECTS {
            return Err(format!("more than {MAX_OBJECTS} objects to refer to"));
        }
        self.memo.insert(key, value);
        Ok(())
    }

    pub fn recall(&mut self, bytes: usize) -> Result<(), String> {
        let key = self.number(bytes)?;
        self.stack.push(*self.memo.get(&key).ok_or(CUT)?);
        Ok(())
    }
}
