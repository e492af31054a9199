//! Settings as text: what options, TOML and JSON write as one word.

use std::fmt::Display;

use crate::{Error, Result};

/// The value of `all` that `text` names by its `Display`.
///
/// # Errors
/// [`Error::Config`] for the setting `what`, with all names, if there is none.
pub(crate) fn one_of<T: Display>(all: impl IntoIterator<Item = T>, what: &str, text: &str) -> Result<T> {
    let mut names = Vec::new();
    for value in all {
        let name = value.to_string();
        if name == text {
            return Ok(value);
        }
        names.push(name);
    }
    let problem = match &names[..] {
        [one, other] => format!("{text:?} is neither {one} nor {other}"),
        [first @ .., last] if !first.is_empty() => format!("{text:?} is none of {} and {last}", first.join(", ")),
        _ => format!("{text:?} is not {}", names.concat()),
    };
    Err(Error::config(what, problem))
}

/// Serialises a type as the text of its `Display`, and reads it by its `FromStr`.
macro_rules! as_text {
    ($kind:ty) => {
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_told_all_of_them() {
        assert_eq!(one_of([1, 2, 3], "number", "2").unwrap(), 2);
        let problem = |all: &[u32]| one_of(all.iter().copied(), "number", "x").unwrap_err().to_string();
        assert_eq!(problem(&[1, 2, 3]), "number: \"x\" is none of 1, 2 and 3");
        assert_eq!(problem(&[1, 2]), "number: \"x\" is neither 1 nor 2");
        assert_eq!(problem(&[1]), "number: \"x\" is not 1");
    }
}
