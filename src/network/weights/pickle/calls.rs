//! Calls in a pickle, none of which is made: those that make a dictionary or a tensor are
//! understood, all others leave an opaque object.

use super::{
    machine::{CUT, Machine},
    objects::{Object, STORAGES, Storage, TensorView, Value},
};

const ORDERED_DICT: &str = "collections.OrderedDict";
const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER: [&str; 2] =
    ["torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"];
/// Of a tensor with attributes: the function that makes the tensor, its type, the arguments.
const REBUILD_WITH_ATTRIBUTES: &str = "torch._tensor._rebuild_from_type_v2";

/// Letters of the name of a class or function, more than any that is known here.
const MAX_NAME: usize = 200;

/// Letters of a storage's key, which is a number, and axes of a tensor; no real file has more.
/// Small ones cannot be made large by many references to them.
const MAX_KEY: usize = 20;
const MAX_AXES: usize = 8;

/// The name of a class or function: two lines, or the two texts on the stack.
pub fn global(machine: &mut Machine, opcode: u8) -> Result<(), String> {
    let name = |module: &str, name: &str| -> String {
        let letters = module.chars().chain(".".chars()).chain(name.chars());
        letters.take(MAX_NAME).collect()
    };
    let name = if opcode == b'c' {
        name(machine.line()?, machine.line()?)
    } else {
        let parts = machine.last(2)?;
        name(machine.read.text(parts[0]).ok_or(CUT)?, machine.read.text(parts[1]).ok_or(CUT)?)
    };
    machine.push(Object::Global(name))
}

/// The persistent id `("storage", kind, key, device, numbers)`; before PyTorch 1.6 with the part of
/// another storage that it is, which is None since version 0.4.
pub fn storage(machine: &mut Machine) -> Result<(), String> {
    let id = machine.pop()?;
    let Some(&[tag, class, key, _, Value::Int(len), ref part @ ..]) = machine.read.sequence(id)
    else {
        return opaque(machine, Value::Other);
    };
    let kind = machine.read.name(class).and_then(|name| STORAGES.iter().position(|s| *s == name));
    let key = machine.read.text(key).filter(|key| key.len() <= MAX_KEY).map(String::from);
    let is_storage =
        machine.read.text(tag) == Some("storage") && matches!(part, [] | [Value::Other]);
    match (kind, key) {
        (Some(kind), Some(key)) if is_storage => {
            machine.push(Object::Storage(Box::new(Storage { kind, key, len })))
        }
        _ => opaque(machine, class),
    }
}

/// A call of a function, or of a class for a new object.
pub fn call(machine: &mut Machine, opcode: u8) -> Result<(), String> {
    if opcode == b'o' {
        let parts = machine.since_mark()?;
        return opaque(machine, *parts.first().ok_or(CUT)?);
    }
    if opcode == 0x92 {
        machine.pop()?; // the arguments by name
    }
    let (arguments, function) = (machine.pop()?, machine.pop()?);
    let (called, arguments) = with_attributes(machine, function, arguments);
    let made = match (machine.read.name(called), machine.read.sequence(arguments)) {
        (Some(ORDERED_DICT), Some([])) => Object::Dict(Vec::new()),
        (Some(REBUILD_TENSOR), Some(arguments)) => match view(machine, arguments) {
            Ok(view) => Object::Tensor(Box::new(view)),
            Err(class) => Object::Opaque { class: class.unwrap_or(called), state: Value::Other },
        },
        (Some(name), Some(&[tensor, ..])) if REBUILD_PARAMETER.contains(&name) => {
            machine.stack.push(tensor);
            return Ok(());
        }
        _ => Object::Opaque { class: function, state: Value::Other },
    };
    machine.push(made)
}

/// Keeps the attributes of an opaque object. Others do not matter, such as `_metadata`, the
/// versions of modules, of a dictionary.
pub fn build(machine: &mut Machine) -> Result<(), String> {
    let attributes = machine.pop()?;
    if let Some(Object::Opaque { state, .. }) = machine.top_object()? {
        *state = attributes;
    }
    Ok(())
}

fn opaque(machine: &mut Machine, class: Value) -> Result<(), String> {
    machine.push(Object::Opaque { class, state: Value::Other })
}

/// The function and the arguments of a tensor without its attributes.
fn with_attributes(machine: &Machine, function: Value, arguments: Value) -> (Value, Value) {
    match (machine.read.name(function), machine.read.sequence(arguments)) {
        (Some(REBUILD_WITH_ATTRIBUTES), Some(&[inner, _, arguments, ..])) => (inner, arguments),
        _ => (function, arguments),
    }
}

/// The tensor of `(storage, offset, size, stride, ...)`, or the class of a storage of numbers that
/// are not known here.
fn view(machine: &Machine, arguments: &[Value]) -> Result<TensorView, Option<Value>> {
    let &[storage, Value::Int(offset), size, stride, ..] = arguments else { return Err(None) };
    match machine.read.object(storage) {
        Some(Object::Storage(storage)) => Ok(TensorView {
            storage: (**storage).clone(),
            offset,
            size: ints(machine, size).ok_or(None)?,
            stride: ints(machine, stride).ok_or(None)?,
        }),
        Some(Object::Opaque { class, .. }) => Err(Some(*class)),
        _ => Err(None),
    }
}

fn ints(machine: &Machine, value: Value) -> Option<Vec<i64>> {
    let int = |v: &Value| match v {
        Value::Int(n) => Some(*n),
        _ => None,
    };
    machine.read.sequence(value).filter(|items| items.len() <= MAX_AXES)?.iter().map(int).collect()
}
