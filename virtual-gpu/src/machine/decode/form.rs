//! An opcode, split into name and modifiers. Decoding takes each modifier it knows; one left over is an error.

use crate::arith::Rounding;
use crate::machine::LoadError;
use crate::ptx::ast::Type;

pub(super) struct Form<'a> {
    pub name: &'a str,
    pub base: &'a str,
    pub line: usize,
    modifiers: Vec<&'a str>,
}

impl<'a> Form<'a> {
    pub fn new(name: &'a str, line: usize) -> Self {
        let mut parts = name.split('.');
        let base = parts.next().unwrap_or_default();
        Form { name, base, line, modifiers: parts.collect() }
    }

    pub fn fail<T>(&self, message: impl AsRef<str>) -> Result<T, LoadError> {
        Err(LoadError::new(self.line, format!("`{}`: {}", self.name, message.as_ref())))
    }

    pub fn unsupported<T>(&self) -> Result<T, LoadError> {
        Err(LoadError::new(self.line, format!("instruction `{}` is not supported", self.name)))
    }

    /// Whether the form requires sm_90 ("PTX ISA Notes" and "Target ISA Notes" of each instruction).
    pub fn needs_sm_90(&self) -> bool {
        let has = |modifier: &str| self.has(modifier);
        let brain = has("bf16") || has("bf16x2");
        match self.base {
            "cvt" => has("tf32") && !has("rna") || brain && (!has("f32") || self.name == "cvt.ftz.f32.bf16"),
            "add" | "sub" | "mul" | "ex2" | "tanh" | "setp" | "set" => brain,
            "atom" | "red" => brain || has("cluster"),
            "ld" | "st" => has("cluster") || has("shared::cluster"),
            "fence" => has("cluster") || has("proxy") || has("mbarrier_init"),
            // Without sm_90 an mbarrier has neither bytes nor `try_wait` nor a scope.
            "mbarrier" => ["expect_tx", "complete_tx", "try_wait", "parity", "relaxed", "cluster", "shared::cluster"]
                .iter()
                .any(|modifier| has(modifier)),
            "cp" => has("bulk"),
            "elect" | "griddepcontrol" | "mapa" | "getctarank" | "stmatrix" => true,
            "barrier" => has("cluster"),
            _ => false,
        }
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.modifiers.contains(&modifier)
    }

    /// Takes a modifier at any position; returns whether it was present.
    pub fn take(&mut self, modifier: &str) -> bool {
        match self.modifiers.iter().position(|found| *found == modifier) {
            Some(at) => {
                self.modifiers.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes every modifier that is one of `known`, and returns them in their order.
    pub fn take_all(&mut self, known: &[&str]) -> Vec<&'a str> {
        let (found, left) = self.modifiers.iter().partition(|modifier| known.contains(modifier));
        self.modifiers = left;
        found
    }

    /// Takes the first modifier of which `read` makes something, and returns that.
    pub fn take_with<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, found) = self.modifiers.iter().enumerate().find_map(|(at, modifier)| Some((at, read(modifier)?)))?;
        self.modifiers.remove(at);
        Some(found)
    }

    /// Takes the first of `choices` that is present, and returns its value.
    pub fn any<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choices.iter().find(|(modifier, _)| self.take(modifier)).map(|choice| choice.1)
    }

    /// Takes the next modifier, which must be a type.
    pub fn ty(&mut self) -> Result<Type, LoadError> {
        match self.modifiers.first().copied().and_then(Type::parse) {
            Some(ty) => {
                self.modifiers.remove(0);
                Ok(ty)
            }
            None => self.unsupported(),
        }
    }

    /// Drops modifiers that affect only what is not modelled, such as caches.
    pub fn ignore(&mut self, prefixes: &[&str]) {
        self.modifiers.retain(|found| !prefixes.iter().any(|prefix| found.starts_with(prefix)));
    }

    pub fn rounding(&mut self) -> Option<Rounding> {
        self.any(&[
            ("rn", Rounding::Nearest),
            ("rz", Rounding::Zero),
            ("rm", Rounding::Down),
            ("rp", Rounding::Up),
            ("rna", Rounding::NearestAway),
        ])
    }

    pub fn finish(&self) -> Result<(), LoadError> {
        match self.modifiers.first() {
            None => Ok(()),
            Some(left) => Err(LoadError::new(
                self.line,
                format!("instruction `{}` is not supported: unknown modifier `.{left}`", self.name),
            )),
        }
    }
}
