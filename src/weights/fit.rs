//! Whether the tensors of a file fit a network's parameters: names, shapes and values. One message says everything that
//! does not fit, in the network's order or by name, never in the file's.

use super::{Tensor, Tensors};
use crate::Shape;

/// The names that a message lists before it counts the rest.
const LISTED: usize = 5;

const REMEDY: &str = "use a file that was saved for the same network";

impl Tensors {
    /// What stands before the parameters' names in the names of these tensors: nothing, or one prefix of all. Tensors
    /// whose names begin with one of `beside` are not looked at.
    ///
    /// # Errors
    /// The names of all missing and of all unexpected tensors, if there is no such prefix.
    pub(super) fn prefix(&self, params: &[(String, Shape)], beside: &[String]) -> Result<String, String> {
        let misfit = match self.strangers(params, beside) {
            None => return Ok(String::new()),
            Some(misfit) => misfit,
        };
        let (Some((first, _)), true) = (self.tensors.first_key_value(), beside.is_empty()) else { return Err(misfit) };
        let fits = |prefix: &&str| {
            let known = params.iter().all(|(name, _)| self.tensors.contains_key(&format!("{prefix}{name}")));
            known && self.tensors.len() == params.len()
        };
        let prefixes = first.match_indices('.').map(|(dot, _)| &first[..=dot]);
        // Only what stands before a parameter's name can be the prefix.
        let mut prefixes = prefixes.filter(|prefix| params.iter().any(|(name, _)| *name == first[prefix.len()..]));
        prefixes.find(fits).map(str::to_owned).ok_or(misfit)
    }

    /// The missing and the unexpected names, as a message.
    fn strangers(&self, params: &[(String, Shape)], beside: &[String]) -> Option<String> {
        let missing: Vec<&str> =
            params.iter().map(|(name, _)| &**name).filter(|n| !self.tensors.contains_key(*n)).collect();
        let known = |name: &str| {
            params.iter().any(|(param, _)| param == name) || beside.iter().any(|prefix| name.starts_with(prefix))
        };
        let unexpected: Vec<&str> = self.tensors.keys().map(|name| &**name).filter(|name| !known(name)).collect();
        if missing.is_empty() && unexpected.is_empty() {
            return None;
        }
        let unexpected = match &unexpected[..] {
            [] => None,
            [name] => Some(format!("the network has no parameter {name}")),
            names => Some(format!("the network has no parameters {}", list(names))),
        };
        Some(said([absent(&missing), unexpected, Some(REMEDY.into())]))
    }

    /// The tensors named `prefix` and a parameter's name, in the parameters' order.
    ///
    /// # Errors
    /// The names of those that are missing; the shapes of those that have another shape than the parameter; the name of
    /// the first that holds a NaN or an infinity.
    pub(super) fn fitting(&self, params: &[(String, Shape)], prefix: &str) -> Result<Vec<&Tensor>, String> {
        let named = |(name, _): &(String, Shape)| format!("{prefix}{name}");
        let names: Vec<String> = params.iter().map(named).collect();
        let missing: Vec<&str> = names.iter().map(|name| &**name).filter(|n| !self.tensors.contains_key(*n)).collect();
        if let Some(missing) = absent(&missing) {
            return Err(said([Some(missing), Some(REMEDY.into())]));
        }
        let found: Vec<&Tensor> = names.iter().filter_map(|name| self.tensors.get(name)).collect();
        let all = || names.iter().zip(params).zip(&found);
        let wrong = all().filter(|((_, (_, shape)), tensor)| tensor.dims != shape.dims());
        let wrong = wrong.map(|((name, (_, shape)), tensor)| {
            format!("tensor {name} has shape {:?}, the network's is {shape}", tensor.dims)
        });
        let wrong: Vec<String> = wrong.collect();
        if !wrong.is_empty() {
            return Err(said([Some(listed(&wrong, "; ")), Some(REMEDY.into())]));
        }
        let lost = |tensor: &Tensor| tensor.values.iter().filter(|value| !value.is_finite()).count();
        let mut lost = all().map(|((name, _), tensor)| (name, lost(tensor))).filter(|(_, count)| *count > 0);
        if let Some((name, count)) = lost.next() {
            let values = if count == 1 { "a value that is" } else { &format!("{count} values that are") };
            let others = match lost.count() {
                0 => String::new(),
                1 => " (as does another tensor)".into(),
                others => format!(" (as do {others} other tensors)"),
            };
            let remedy = "the training that saved them had diverged: use an earlier file";
            return Err(format!("tensor {name} holds {values} NaN or infinite{others}; {remedy}"));
        }
        Ok(found)
    }
}

/// The message for missing tensors.
fn absent(names: &[&str]) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("tensor {name} is missing")),
        names => Some(format!("tensors {} are missing", list(names))),
    }
}

fn list(names: &[&str]) -> String {
    listed(names, ", ")
}

/// The first items with `separator` between them, and the number of the others.
fn listed<T: AsRef<str>>(items: &[T], separator: &str) -> String {
    let first: Vec<&str> = items.iter().take(LISTED).map(AsRef::as_ref).collect();
    match items.len().saturating_sub(LISTED) {
        0 => first.join(separator),
        more => format!("{} and {more} more", first.join(separator)),
    }
}

fn said<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
