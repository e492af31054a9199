use std::fs;
use std::path::Path;

use super::*;
use crate::train::Preset;

fn create(folder: &Path) -> Result<Run> {
    Run::create(folder, Preset::Small.config())
}

/// Browsers name the files alike that they have not yet loaded whole.
#[test]
fn parts_of_others_fill_a_folder_and_stay() {
    let place = tempfile::tempdir().unwrap();
    let others = ["film.part", "film.4000000.part", "config.toml.part", "config.toml.x.part"];
    for other in others {
        let (folder, path) = (place.path().join(other), place.path().join(other).join(other));
        drop(create(&folder).unwrap());
        let own = folder.join("state.safetensors.4000000.part");
        fs::write(&path, "half").unwrap();
        fs::write(&own, "half").unwrap();
        Run::resume(&folder).unwrap();
        assert!(path.exists() && !own.exists(), "{other}");
        fs::remove_file(folder.join(CONFIG)).unwrap();
        let error = create(&folder).unwrap_err();
        assert!(matches!(&error, Error::RunNotEmpty { holds, .. } if holds == other), "{error}");
        assert!(path.exists(), "{other}");
    }
}

/// A folder from elsewhere must not have a file of the user's overwritten.
#[cfg(unix)]
#[test]
fn a_lock_that_is_a_link_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (folder, target) = (place.path().join("run"), place.path().join("target"));
    fs::write(&target, "precious").unwrap();
    drop(create(&folder).unwrap());
    fs::remove_file(folder.join(".lock")).unwrap();
    std::os::unix::fs::symlink(&target, folder.join(".lock")).unwrap();
    let error = Run::resume(&folder).unwrap_err().to_string();
    assert!(error.contains(".lock is no plain file"), "{error}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}
