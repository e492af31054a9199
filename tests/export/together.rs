//! Outputs that appear together, or not at all.

use std::path::Path;

use mlpconv::export::{Output, together};
use mlpconv::weights::write_whole;
use tempfile::TempDir;

use super::*;

fn file(path: impl AsRef<Path>) -> Output<'static> {
    Output::file(path.as_ref(), |path| write_whole(path, b"content"))
}

fn folder(path: impl AsRef<Path>) -> Output<'static> {
    Output::folder(path.as_ref(), |path| {
        fs::create_dir(path).unwrap();
        write_whole(&path.join("inside"), b"content")
    })
}

/// The paths below a folder, in order.
fn below(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            paths.extend(below(&entry.path()).iter().map(|path| format!("{name}/{path}")));
        }
        paths.push(name);
    }
    paths.sort();
    paths
}

/// The error's text, after a look that the paths below `place` are still `paths`.
fn refused(place: &TempDir, outputs: Vec<Output<'_>>, paths: &[&str]) -> String {
    let error = together(outputs).unwrap_err();
    assert_eq!(below(place.path()), paths, "{error}");
    error.to_string()
}

#[test]
fn outputs_come_whole_and_alone() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    together(vec![folder(at("new")), file(at("file")), folder(at("empty"))]).unwrap();
    assert_eq!(below(place.path()), ["empty", "empty/inside", "file", "new", "new/inside"]);
}

#[test]
fn paths_are_checked_before_anything_is_made() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    write_whole(&at("there"), b"old").unwrap();
    let there = ["empty", "there"];
    let refuses = |last: Output<'static>, says: &str| {
        let never = Output::file(at("first"), |_| panic!("made before the paths were checked"));
        let said = refused(&place, vec![never, folder(at("empty")), last], &there);
        assert!(said.ends_with(says), "{said}");
    };
    refuses(file(at("there")), "there: is there already; name a new one, or remove it");
    refuses(folder(at("there")), "there: is there already; name a new one, or remove it");
    refuses(file(at("empty")), "empty: is a folder; name a file");
    refuses(folder(place.path()), "; name a new or empty one");
    refuses(file(at("lacking/file")), "lacking is not a folder; make it, or name another");
    refuses(file(at("there/file")), "there is not a folder; make it, or name another");
    refuses(file(at("empty/..")), "has no name of its own; name a new one");
    refuses(file(at("./empty/../first")), "two outputs would be written there; name a path for each");
    refuses(file(at("empty/file")), "empty would be within each other; name paths side by side");
    assert_eq!(fs::read(at("there")).unwrap(), b"old");
    assert!(matches!(together(vec![file(at("there"))]), Err(Error::Output { path, .. }) if path == at("there")));
}

#[test]
fn nothing_is_left_of_outputs_that_fail() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("empty")).unwrap();
    let outputs = |last| vec![folder(at("empty")), file(at("file")), folder(at("new")), last];
    let half = Output::folder(at("half"), |path| {
        fs::create_dir(path).unwrap();
        write_whole(&path.join("one"), b"content")?;
        write_whole(&path.join("no/folder/two"), b"content")
    });
    let said = refused(&place, outputs(half), &["empty"]);
    // As the user knows it, not as it was made.
    assert!(said.starts_with(&format!("cannot write {}: ", at("half/no/folder/two").display())), "{said}");

    // The last output is the first to find that its place was taken meanwhile: the others are in theirs by then.
    let late = Output::file(at("late"), |path| {
        write_whole(&at("late"), b"another's")?;
        write_whole(path, b"content")
    });
    let said = refused(&place, outputs(late), &["empty", "late"]);
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(fs::read(at("late")).unwrap(), b"another's");
}
