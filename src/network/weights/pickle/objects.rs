//! What a pickle describes: a list of objects that refer to each other by their position in it.

/// A value on the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Value {
    /// None, a boolean, a floating-point number, bytes: nothing that describes a tensor.
    #[default]
    Other,
    Int(i64),
    /// A position in the list of objects.
    Object(usize),
}

/// Anything but a plain number.
#[derive(Debug)]
pub enum Object {
    Text(String),
    /// A tuple, a list or a set.
    Sequence(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// `module.name` of a class or function, cut to its first letters where it is long.
    Global(String),
    Storage(Box<Storage>),
    Tensor(Box<TensorView>),
    /// What a call would have made. The call is not made.
    Opaque {
        /// The class or function.
        class: Value,
        /// The attributes that the object would have got.
        state: Value,
    },
}

/// The values of tensors, outside of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// An index into [`STORAGES`].
    pub kind: usize,
    /// The name of the file.
    pub key: String,
    /// The number of values that the pickle claims.
    pub len: i64,
}

/// A tensor as a part of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorView {
    pub storage: Storage,
    /// In values, not bytes; not checked against the storage.
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// PyTorch's names of the storages.
pub const STORAGES: [&str; 8] = [
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
];

/// The content of a pickle.
#[derive(Debug, Default)]
pub struct Pickle {
    pub objects: Vec<Object>,
    pub root: Value,
}

impl Pickle {
    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        let Object::Dict(pairs) = self.object(value)? else { return None };
        Some(pairs)
    }

    pub fn text(&self, value: Value) -> Option<&str> {
        let Object::Text(text) = self.object(value)? else { return None };
        Some(text)
    }

    pub fn sequence(&self, value: Value) -> Option<&[Value]> {
        let Object::Sequence(items) = self.object(value)? else { return None };
        Some(items)
    }

    /// The name of a class or function.
    pub fn name(&self, value: Value) -> Option<&str> {
        let Object::Global(name) = self.object(value)? else { return None };
        Some(name)
    }

    pub fn object(&self, value: Value) -> Option<&Object> {
        let Value::Object(at) = value else { return None };
        self.objects.get(at)
    }
}
