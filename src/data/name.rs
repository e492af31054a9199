//! The name of a data set as a user writes it: a known one, or a folder.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::known;
use super::spec::DataSpec;
use crate::error::{Error, Result};

/// The choice of a data set. As text it is a known name, else the path of a folder. `./NAME` means a folder whose name
/// is also a data set's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DataName {
    /// A data set that is known by name.
    Known(&'static DataSpec),
    /// A folder of images, or one that holds the files of a known data set.
    Folder(PathBuf),
}

impl Default for DataName {
    /// Fashion-MNIST: the data set of runs whose settings name none.
    fn default() -> Self {
        DataName::Known(&known::FASHION_MNIST)
    }
}

impl From<&str> for DataName {
    fn from(text: &str) -> Self {
        known::by_name(text).map_or_else(|| DataName::Folder(text.into()), DataName::Known)
    }
}

impl From<String> for DataName {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<DataName> for String {
    fn from(name: DataName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataName::Known(spec) => f.write_str(spec.name),
            DataName::Folder(folder) => folder.display().fmt(f),
        }
    }
}

impl DataName {
    /// The description of a known data set; `None` for a folder, of which nothing is known before it is read.
    pub fn spec(&self) -> Option<&'static DataSpec> {
        match self {
            DataName::Known(spec) => Some(spec),
            DataName::Folder(_) => None,
        }
    }

    /// The same choice with an absolute path for a folder, so that it does not depend on the working folder.
    ///
    /// # Errors
    /// [`Error::Io`] where there is no working folder.
    pub fn absolute(self) -> Result<Self> {
        match self {
            DataName::Folder(folder) => {
                let absolute = std::path::absolute(&folder).map_err(Error::io("find", folder))?;
                Ok(DataName::Folder(absolute))
            }
            known => Ok(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_or_folders() {
        for spec in known::ALL {
            assert_eq!(DataName::from(spec.name), DataName::Known(spec));
            assert_eq!(DataName::from(spec.name).to_string(), spec.name);
        }
        assert_eq!(DataName::from("some/where"), DataName::Folder("some/where".into()));
        let absolute = DataName::from("some/where").absolute().unwrap();
        assert!(matches!(&absolute, DataName::Folder(path) if path.is_absolute()));
        assert_eq!(DataName::from(String::from(absolute.clone())), absolute);
        assert_eq!(DataName::default().to_string(), "fashion-mnist");
    }
}
