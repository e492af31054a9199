//! Pickles of state dicts, read without executing anything.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine has the opcodes that
//! `torch.save` writes for dictionaries of tensors in protocols 2 to 5, and five globals besides the storages' types; none of
//! them is a function here, only a word that is recognised. Anything else is refused by name.
//!
//! Source: Python's `Lib/pickletools.py`, which documents every opcode, and `torch/_utils.py`.

use std::collections::HashMap;

use safetensors::Dtype;

use super::{SAVE_AGAIN, shown};

/// The most opcodes. Each makes one object at most, so this bounds the memory too. A tensor takes about forty.
const MOST: usize = 1 << 20;

/// A value on the stack. It is small: what has parts is in [`Pickle::objects`], so that a value may be copied for every
/// mention, and nothing here is recursive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    /// A text: its first and last byte in the pickle.
    Text([u32; 2]),
    Global(Global),
    /// The number of an object.
    Object(u32),
    /// None, a bool, a float, or an integer beyond 64 bits: nothing that tensors are made of.
    Other,
}

/// A global of Python that a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// An object, by its parts.
#[derive(Debug, PartialEq)]
pub enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A storage of `len` elements in the record `data/KEY`; `key` is a text.
    Storage {
        kind: Dtype,
        key: Value,
        len: i64,
    },
    /// A view of a storage. `storage` is its object, `size` and `stride` are tuples.
    Tensor {
        storage: u32,
        offset: i64,
        size: u32,
        stride: u32,
    },
}

/// A pickle that was read.
pub struct Pickle<'a> {
    bytes: &'a [u8],
    objects: Vec<Object>,
    /// What it holds.
    pub root: Value,
}

impl<'a> Pickle<'a> {
    /// Reads a whole pickle.
    ///
    /// # Errors
    /// What is wrong with it, in one line: the name of a global or an opcode that is not allowed, or damage.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (stack, marks, memo, objects) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        let mut machine = Machine { bytes, at: 0, stack, marks, memo, objects };
        for _ in 0..MOST {
            if let Some(root) = machine.step()? {
                return match machine.at == bytes.len() && machine.stack.is_empty() {
                    true => Ok(Pickle { bytes, objects: machine.objects, root }),
                    false => Err(damaged("there is more in it than one object")),
                };
            }
        }
        Err(format!("its pickle has more than {MOST} opcodes; {SAVE_AGAIN}"))
    }

    /// The object of a value, if it is one.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }

    /// The text of a value, if it is one.
    pub fn text(&self, value: Value) -> Option<&'a str> {
        text(self.bytes, value)
    }

    /// The numbers of a tuple.
    pub fn numbers(&self, tuple: u32) -> Option<Vec<usize>> {
        let Some(Object::Tuple(items)) = self.objects.get(tuple as usize) else { return None };
        let number = |item: &Value| match item {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        // PyTorch's tensors have 64 dimensions at most.
        if items.len() > 64 { None } else { items.iter().map(number).collect() }
    }
}

fn text(bytes: &[u8], value: Value) -> Option<&str> {
    let Value::Text([start, end]) = value else { return None };
    std::str::from_utf8(bytes.get(start as usize..end as usize)?).ok()
}

fn damaged(problem: &str) -> String {
    format!("its pickle is damaged: {problem}; get the file again")
}

/// The error for a global that is not allowed.
fn forbidden(module: &str, name: &str) -> String {
    format!("it would run {}; {SAVE_AGAIN}", shown(format!("{module}.{name}").as_bytes()))
}

impl Global {
    fn named(module: &str, name: &str) -> Result<Self, String> {
        let found = match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch", _) => name.strip_suffix("Storage").and_then(kind).map(Global::Storage),
            _ => None,
        };
        found.ok_or_else(|| forbidden(module, name))
    }
}

/// The type of the elements of a storage, by its name in PyTorch.
fn kind(name: &str) -> Option<Dtype> {
    Some(match name {
        "Float" => Dtype::F32,
        "Double" => Dtype::F64,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        _ => return None,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// The heights of the stack at its marks.
    marks: Vec<usize>,
    /// Values by their places. A map, since a place may be any number.
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    /// Runs an opcode. The value is that of the opcode which ends the pickle.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let at = self.at;
        let [opcode] = self.array()?;
        match opcode {
            // PROTO; FRAME: the length of what follows, of no use to a reader that has it all.
            0x80 => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return Err(damaged(&format!("it is of protocol {version}, and 2 to 5 are known")));
                }
            }
            0x95 => drop(self.array::<8>()?),
            // STOP
            b'.' => return self.pop().map(Some),
            // MARK
            b'(' => self.marks.push(self.stack.len()),
            // NONE, NEWTRUE, NEWFALSE, BINFLOAT
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
            b'G' => {
                self.array::<8>()?;
                self.stack.push(Value::Other);
            }
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = u8::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            0x8a => {
                let [len] = self.array()?;
                let number = integer(self.take(len.into())?);
                self.stack.push(number);
            }
            // SHORT_BINUNICODE, BINUNICODE
            0x8c => {
                let [len] = self.array()?;
                self.push_text(len.into())?;
            }
            b'X' => {
                let len = u32::from_le_bytes(self.array()?);
                self.push_text(len as usize)?;
            }
            // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => self.push(Object::Tuple(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items));
            }
            0x85..=0x87 => {
                let len = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(len).filter(|&from| from >= self.floor());
                let items = self.stack.split_off(from.ok_or_else(underflow)?);
                self.push(Object::Tuple(items));
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Object::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Object::Dict(Vec::new())),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => {
                let [place] = self.array()?;
                self.memoize(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.memoize(place)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            // BINGET, LONG_BINGET
            b'h' => {
                let [place] = self.array()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(Global::named(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |value| text(self.bytes, value).ok_or_else(|| damaged("a global's name is no text"));
                let global = Global::named(text(module)?, text(name)?)?;
                self.stack.push(Value::Global(global));
            }
            // INST would call a class; it is read for its name.
            b'i' => return Err(forbidden(self.line()?, self.line()?)),
            // BINPERSID, REDUCE, BUILD
            b'Q' => {
                let place = self.pop()?;
                let storage = self.storage(place)?;
                self.push(storage);
            }
            b'R' => self.reduce()?,
            b'b' => {
                // The attributes of a state dict, its `_metadata`: versions of its modules. Nobody asks for them.
                let (attributes, object) = (self.pop()?, self.top()?);
                let dict = |value| matches!(self.get(value), Some(Object::Dict(_)));
                if !dict(attributes) || !dict(object) {
                    return Err(format!("it would set attributes of an object; {SAVE_AGAIN}"));
                }
            }
            _ => return Err(format!("it would run pickle's opcode {opcode:#04x} at byte {at}; {SAVE_AGAIN}")),
        }
        Ok(None)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..len).ok_or_else(|| damaged("it is cut short"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    /// A text that ends with its line.
    fn line(&mut self) -> Result<&'a str, String> {
        let len = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(len.ok_or_else(|| damaged("it is cut short"))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| damaged("a name is not UTF-8"))
    }

    /// The height of the stack at the last mark, below which nothing is taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, String> {
        if self.stack.len() <= self.floor() {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Result<Value, String> {
        self.stack[self.floor().min(self.stack.len())..].last().copied().ok_or_else(underflow)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or_else(|| damaged("there is no mark"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn push(&mut self, object: Object) {
        self.stack.push(Value::Object(self.objects.len() as u32));
        self.objects.push(object);
    }

    fn push_text(&mut self, len: usize) -> Result<(), String> {
        let start = self.at;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| damaged("a text is not UTF-8"))?;
        self.stack.push(Value::Text([start as u32, self.at as u32]));
        Ok(())
    }

    fn get(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(number) => self.objects.get(number as usize),
            _ => None,
        }
    }

    /// The object on top of the stack.
    fn top_object(&mut self) -> Result<Option<&mut Object>, String> {
        Ok(match self.top()? {
            Value::Object(number) => self.objects.get_mut(number as usize),
            _ => None,
        })
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.top_object()? {
            Some(Object::List(list)) => list.extend(items),
            _ => return Err(damaged("it appends to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Value]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else { return Err(damaged("a key has no value")) };
        match self.top_object()? {
            Some(Object::Dict(dict)) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(damaged("it adds an entry to what is no dictionary")),
        }
        Ok(())
    }

    fn memoize(&mut self, place: u32) -> Result<(), String> {
        let value = self.top()?;
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let value = self.memo.get(&place).ok_or_else(|| damaged("it recalls what it has not stored"))?;
        self.stack.push(*value);
        Ok(())
    }

    /// The storage that a persistent id names: `("storage", type, key, device, elements)`.
    fn storage(&self, id: Value) -> Result<Object, String> {
        let unknown = || damaged("it names a storage in another way than torch.save");
        let Some(Object::Tuple(parts)) = self.get(id) else { return Err(unknown()) };
        let &[word, Value::Global(Global::Storage(kind)), key, _, Value::Int(len)] = &parts[..] else {
            return Err(unknown());
        };
        match (text(self.bytes, word), text(self.bytes, key)) {
            (Some("storage"), Some(_)) => Ok(Object::Storage { kind, key, len }),
            _ => Err(unknown()),
        }
    }

    /// Makes the object of a global and its arguments.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, global) = (self.pop()?, self.pop()?);
        let unknown = |what: &str| damaged(&format!("{what} has other arguments than torch.save gives it"));
        let Some(Object::Tuple(arguments)) = self.get(arguments) else {
            return Err(damaged("a call has no arguments"));
        };
        match global {
            Value::Global(Global::OrderedDict) => {
                if !arguments.is_empty() {
                    return Err(unknown("OrderedDict"));
                }
                self.push(Object::Dict(Vec::new()));
            }
            Value::Global(Global::RebuildTensor) => {
                // Storage, offset, size, stride, whether it has a gradient, its hooks, and since PyTorch 2.0 bits such
                // as "negative", without which the numbers would be others.
                let &[
                    Value::Object(storage),
                    Value::Int(offset),
                    Value::Object(size),
                    Value::Object(stride),
                    _,
                    _,
                    ref bits @ ..,
                ] = &arguments[..]
                else {
                    return Err(unknown("a tensor"));
                };
                let plain = match bits {
                    [] | [Value::Other] => true,
                    [bits] => matches!(self.get(*bits), Some(Object::Dict(bits)) if bits.is_empty()),
                    _ => false,
                };
                let is_storage = matches!(self.get(Value::Object(storage)), Some(Object::Storage { .. }));
                if !plain || !is_storage {
                    return Err(unknown("a tensor"));
                }
                self.push(Object::Tensor { storage, offset, size, stride });
            }
            Value::Global(Global::RebuildParameter) => {
                let tensor = arguments.first().copied().unwrap_or(Value::Other);
                if arguments.len() != 3 || !matches!(self.get(tensor), Some(Object::Tensor { .. })) {
                    return Err(unknown("a parameter"));
                }
                self.stack.push(tensor);
            }
            _ => return Err(format!("it would call what is no function of PyTorch's tensors; {SAVE_AGAIN}")),
        }
        Ok(())
    }
}

fn underflow() -> String {
    damaged("it takes more from its stack than there is")
}

/// An integer of little-endian bytes in two's complement.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Other;
    }
    let fill = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xff } else { 0 };
    Value::Int(i64::from_le_bytes(std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(fill))))
}
