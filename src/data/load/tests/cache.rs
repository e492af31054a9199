//! The user's cache is fetched into, and mends itself.

use std::fs;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::data::content::hex;
use crate::data::fetch::server::{ok, response, serve};
use crate::data::fetch::{Mirror, Supplier};
use crate::data::recipe::Recipe;
use crate::data::spec::{DataFile, Published};

const NAMES: [&str; 4] = ["train-images", "train-labels", "test-images", "test-labels"];

/// The published files: two images to train on, one to test with.
fn contents() -> [Vec<u8>; 4] {
    let images = |count: u8| {
        [&[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 2][..], &vec![7; 2 * usize::from(count)]].concat()
    };
    let labels = |labels: &[u8]| [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8][..], labels].concat();
    [images(2), labels(&[0, 1]), images(1), labels(&[1])]
}

fn spec() -> &'static DataSpec {
    let files: Vec<DataFile> = NAMES
        .iter()
        .zip(contents())
        .map(|(name, content)| {
            let sha256 = String::leak(hex(&Sha256::digest(&content)));
            DataFile { name, published: Published::Content { bytes: content.len() as u64, sha256 } }
        })
        .collect();
    let (train, test) = files.leak().split_at(2);
    Box::leak(Box::new(DataSpec {
        name: "words",
        title: "Words",
        channels: 1,
        extents: [1, 2],
        class_names: &["no", "yes"],
        recipe: Recipe::Stretched,
        format: Format::Idx,
        train,
        test,
        archive: None,
        below: &["words"],
        mirrors: &[],
        package: None,
        first_labels: None,
    }))
}

/// A cache with the published files, uncompressed.
fn cache() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    NAMES.iter().zip(contents()).for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    folder
}

/// Reads the folder as that of this origin. Returns the result, and the number of files that were fetched.
fn load(folder: &TempDir, origin: Origin, suppliers: &[Supplier]) -> (Result<Splits>, usize) {
    let mut fetched = 0;
    let sources = vec![Source { folder: folder.path().into(), origin }];
    let result = Splits::load_from(spec(), sources, suppliers, &mut |event| {
        fetched += usize::from(matches!(event, Progress::Done { .. }));
    });
    (result, fetched)
}

fn upstream() -> Supplier {
    Supplier::Mirror(Mirror::new(serve(|path| {
        let files = NAMES.iter().zip(contents());
        let asked = files.into_iter().find(|(name, _)| path == format!("/{name}.gz"));
        asked.map_or_else(|| response("404 Not Found", 0, b""), |(_, content)| ok(&content))
    })))
}

/// Damaged files, and a well-formed one with other labels.
fn spoilt() -> [(&'static str, Vec<u8>, &'static str); 5] {
    let [images, labels, ..] = contents();
    [
        ("train-images", images[..images.len() - 1].to_vec(), "truncated"),
        ("train-images", b"<html>Not found</html>".to_vec(), "web page"),
        ("train-labels", labels[..9].to_vec(), "truncated"),
        ("train-labels", [&labels[..9], &[0]].concat(), "is not the published file"),
        ("test-labels", Vec::new(), "truncated"),
    ]
}

#[test]
fn an_empty_and_a_partial_cache_are_filled_and_a_whole_one_is_left() {
    let empty = tempfile::tempdir().unwrap();
    let (data, fetched) = load(&empty, Origin::Cache, &[upstream()]);
    assert_eq!((data.unwrap().train.labels(), fetched), (&[0, 1][..], 4));
    fs::remove_file(empty.path().join("test-labels")).unwrap();
    let (data, fetched) = load(&empty, Origin::Cache, &[upstream()]);
    assert_eq!((data.unwrap().warnings, fetched), (Vec::new(), 1));
    let (data, fetched) = load(&empty, Origin::Cache, &[]);
    assert_eq!((data.unwrap().warnings, fetched), (Vec::new(), 0));
}

#[test]
fn damaged_and_other_files_of_the_cache_are_fetched_again() {
    for (name, content, says) in spoilt() {
        let folder = cache();
        fs::write(folder.path().join(name), content).unwrap();
        let (data, fetched) = load(&folder, Origin::Cache, &[upstream()]);
        let data = data.unwrap();
        assert_eq!((data.train.labels(), data.test.labels(), fetched), (&[0, 1][..], &[1][..], 1));
        let [warning] = &data.warnings[..] else { panic!("{:?}", data.warnings) };
        let path = folder.path().join(name).display().to_string();
        assert!(warning.starts_with(&path) && warning.contains(says), "{warning}");
        assert!(warning.ends_with("it was fetched again"), "{warning}");
        // The next time, nothing is left to mend.
        let (data, fetched) = load(&folder, Origin::Cache, &[]);
        assert_eq!((data.unwrap().warnings, fetched), (Vec::new(), 0));
    }
}

/// Nothing is fetched, and nothing is said to have been.
#[test]
fn the_archive_is_read_instead_of_a_damaged_loose_file() {
    const TRAIN: &[DataFile] = &[DataFile { name: "train.bin", published: Published::Size { bytes: 2 } }];
    const TEST: &[DataFile] = &[DataFile { name: "test.bin", published: Published::Size { bytes: 2 } }];
    let packed = archive(&[("train.bin", vec![0, 7]), ("test.bin", vec![1, 7])]);
    let sha256 = String::leak(hex(&Sha256::digest(&packed)));
    let published = Published::Compressed { bytes: packed.len() as u64, sha256 };
    let archive = Some(DataFile { name: "words.tar", published });
    let (format, extents) = (Format::CifarBinary, [1, 1]);
    let spec: &'static DataSpec =
        Box::leak(Box::new(DataSpec { extents, format, train: TRAIN, test: TEST, archive, ..*spec() }));
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("words.tar.gz", &packed[..]), ("train.bin", &[0, 7, 1]), ("test.bin", &[1, 7])] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let sources = || vec![Source { folder: folder.path().into(), origin: Origin::Cache }];
    let data = Splits::load_from(spec, sources(), &[], &mut |_| {}).unwrap();
    assert_eq!((data.train.labels(), data.test.labels()), (&[0][..], &[1][..]));
    let [warning] = &data.warnings[..] else { panic!("{:?}", data.warnings) };
    let says = format!("; the archive in {} was read instead; delete the loose file", folder.path().display());
    assert!(warning.contains("train.bin: truncated") && warning.ends_with(&says), "{warning}");
    // Its advice works.
    fs::remove_file(folder.path().join("train.bin")).unwrap();
    assert_eq!(Splits::load_from(spec, sources(), &[], &mut |_| {}).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_cache_that_cannot_be_mended_is_refused_with_what_is_wrong() {
    for (name, content, says) in spoilt() {
        let folder = cache();
        fs::write(folder.path().join(name), content).unwrap();
        let error = load(&folder, Origin::Cache, &[]).0.unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
        assert!(error.starts_with("Words was not found and could not be fetched"), "{error}");
    }
}

/// Files in a folder that is not ours to write are as they are: damaged ones are refused, others read with a warning.
#[test]
fn files_elsewhere_are_not_fetched() {
    for origin in [Origin::Argument, Origin::Environment, Origin::WorkingFolder, Origin::System] {
        for (name, content, says) in spoilt() {
            let folder = cache();
            fs::write(folder.path().join(name), &content).unwrap();
            let (data, fetched) = load(&folder, origin, &[upstream()]);
            let problem = data.map_or_else(|error| error.to_string(), |data| data.warnings.concat());
            assert!(problem.contains(says) && fetched == 0, "{problem}");
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), content);
        }
    }
}
