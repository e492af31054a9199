//! The state dict in a pickle: the dictionary whose entries are tensors.

use safetensors::Dtype;

use super::pickle::{Object, Pickle, Value};
use super::{SAVE_AGAIN, shown};
use crate::weights::element::{TYPES, element};

/// The entries under which programs save a state dict beside other things.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "net"];

/// The tensors of a file, not read yet.
#[derive(Debug, PartialEq)]
pub struct StateDict<'a> {
    /// The entry that held it, if it was not the whole.
    pub wrapper: Option<&'static str>,
    pub tensors: Vec<View<'a>>,
}

/// A tensor: a view of a storage.
#[derive(Debug, PartialEq)]
pub struct View<'a> {
    pub name: &'a str,
    pub kind: Dtype,
    /// The storage's key, and its elements.
    pub key: &'a str,
    pub len: usize,
    /// The place of its first element in the storage.
    pub offset: usize,
    pub dims: Vec<usize>,
    /// The elements from one index to the next, for each dimension.
    pub strides: Vec<usize>,
}

impl<'a> StateDict<'a> {
    /// Finds the state dict: the whole, or one level down under the name of a wrapper.
    ///
    /// # Errors
    /// Why there is none, or not one alone; the first entry that is no tensor, or a tensor of a type that weights do
    /// not have, or one that its storage cannot hold.
    pub fn find(pickle: &Pickle<'a>) -> Result<Self, String> {
        let Some(Object::Dict(entries)) = pickle.object(pickle.root) else {
            return Err(format!("it holds no dictionary of tensors; {SAVE_AGAIN}"));
        };
        let dict = |value: Value| match pickle.object(value) {
            Some(Object::Dict(entries)) => Some(&entries[..]),
            _ => None,
        };
        let within = |wrapper: &&'static str| {
            let entry = entries.iter().rev().find(|(key, _)| pickle.text(*key) == Some(*wrapper))?;
            dict(entry.1).map(|entries| (*wrapper, entries))
        };
        let wrapped: Vec<_> = WRAPPERS.iter().filter_map(within).collect();
        let (wrapper, entries) = match wrapped[..] {
            [] => (None, &entries[..]),
            [(wrapper, entries)] => (Some(wrapper), entries),
            [(first, _), (second, _), ..] => {
                return Err(format!("it has weights under {first} and under {second}; save one of them alone"));
            }
        };
        if entries.is_empty() {
            return Err(format!("its state dict is empty; {SAVE_AGAIN}"));
        }
        let tensors = entries.iter().map(|&(key, value)| View::of(pickle, key, value)).collect::<Result<_, _>>()?;
        Ok(StateDict { wrapper, tensors })
    }
}

impl<'a> View<'a> {
    fn of(pickle: &Pickle<'a>, key: Value, value: Value) -> Result<Self, String> {
        let Some(name) = pickle.text(key) else { return Err("a key of its state dict is no text".into()) };
        let what = shown(name.as_bytes());
        let Some(&Object::Tensor { storage, offset, size, stride }) = pickle.object(value) else {
            return Err(format!("its entry {what} is no tensor; {SAVE_AGAIN}"));
        };
        let Some(&Object::Storage { kind, key, len }) = pickle.object(Value::Object(storage)) else {
            return Err(format!("tensor {what} has no storage"));
        };
        if element(kind).is_none() {
            return Err(format!("tensor {what} is {kind}; {TYPES}"));
        }
        let impossible =
            || format!("tensor {what} has a size, stride or offset that no tensor has; get the file again");
        let (dims, strides) = (pickle.numbers(size), pickle.numbers(stride));
        let (Some(dims), Some(strides), Some(key)) = (dims, strides, pickle.text(key)) else {
            return Err(impossible());
        };
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else { return Err(impossible()) };
        let view = View { name, kind, key, len, offset, dims, strides };
        if view.dims.len() != view.strides.len() || view.elements().is_none() {
            return Err(impossible());
        }
        match view.end() {
            Some(end) if end <= len => Ok(view),
            _ => Err(format!("tensor {what} reaches beyond the {len} elements of its storage; get the file again")),
        }
    }

    /// The number of its elements; `None` if it is more than can be addressed.
    pub fn elements(&self) -> Option<usize> {
        // An extent of 0 leaves nothing, however large the others are.
        if self.dims.contains(&0) {
            return Some(0);
        }
        self.dims.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))
    }

    /// The place behind its last element.
    fn end(&self) -> Option<usize> {
        if self.elements()? == 0 {
            return Some(self.offset);
        }
        let steps = self.dims.iter().zip(&self.strides);
        let last = steps.map(|(&extent, stride)| (extent - 1).checked_mul(*stride));
        last.into_iter().try_fold(self.offset, |place, step| place.checked_add(step?))?.checked_add(1)
    }

    /// Whether it is its whole storage, in order.
    pub fn is_whole(&self) -> bool {
        let mut expected = 1;
        let rows = self.dims.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let in_order = extent == 1 || stride == expected;
            expected = expected.saturating_mul(extent);
            in_order
        });
        rows && self.offset == 0 && self.elements() == Some(self.len)
    }

    /// Its values in order, from those of its storage.
    pub fn gathered(&self, storage: &[f32], values: &mut Vec<f32>) {
        // An extent of 1 moves nothing, whatever its stride.
        let axes: Vec<_> = self.dims.iter().zip(&self.strides).filter(|(extent, _)| **extent != 1).collect();
        let (mut index, mut at) = (vec![0; axes.len()], self.offset);
        for _ in 0..self.elements().unwrap_or(0) {
            values.push(storage[at]);
            for (place, (extent, stride)) in index.iter_mut().zip(&axes).rev() {
                *place += 1;
                at += **stride;
                if *place < **extent {
                    break;
                }
                at -= **stride * **extent;
                *place = 0;
            }
        }
    }
}
