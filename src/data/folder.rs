//! A folder of images as a data set, with a folder for each class.
//!
//! The layout is either `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, or `DIR/CLASS/*`. In the second, the 1st, 11th,
//! 21st ... image of each class, in the order of names, is for testing. Names are compared byte by byte. Files ending
//! in `.png`, `.jpg` or `.jpeg` are images; other files and hidden ones are ignored.
//!
//! The images of the classes take turns, so that the first so many of a data set are of all classes.
//!
//! Images become 8 bits a channel. If all are grey they stay grey, else all become RGB. Transparency is dropped, as
//! Pillow's `convert("RGB")` drops it. The orientation that a camera noted is not applied.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::content::is_web_page;
use super::decode::{self, Header, Image, Problem};
use super::form::Form;
use super::recipe::Recipe;
use super::{Dataset, presence};
use crate::error::{Error, Result};
use crate::system::{allocation::zeroed, threads};

/// Test images in the layout `DIR/CLASS/*`: those of a class whose position, from 0, is a multiple of this.
const EVERY: usize = 10;

/// The images of one class.
struct Class {
    train: Vec<PathBuf>,
    test: Vec<PathBuf>,
}

/// Reads the images to train on and those to test with. If all images have one size they keep it, else [`Resizer`](super::resize::Resizer)
/// brings them to `size` x `size`.
///
/// # Errors
/// [`Error::Data`] names the folder that has neither layout, the class without images, or the file that is no image;
/// [`Error::Io`] where the system cannot read a folder or a file, or has no memory for the images.
pub(super) fn read(folder: &Path, size: usize) -> Result<[Dataset; 2]> {
    let (class_names, classes) = classes(folder)?;
    let lists = [interleaved(&classes, |class| &class.train), interleaved(&classes, |class| &class.test)];
    let [height, width, channels] = common(lists.iter().flatten().map(|(path, _)| *path), size)?;
    let dataset = |list: &[(&PathBuf, u8)]| {
        let values = [width, channels].into_iter().try_fold(height, |product, factor| product.checked_mul(factor));
        let bytes = values.and_then(|values| values.checked_mul(list.len())).unwrap_or(usize::MAX);
        let memory = || Error::io("read the images in", folder)(ErrorKind::OutOfMemory.into());
        // The system's zeros take no memory until an image is written: a head may claim more than its file holds.
        let mut pixels = zeroed::<u8>(bytes).ok_or_else(memory)?.into_vec();
        let bring = |(place, (path, _)): (&mut [u8], &(&PathBuf, u8))| {
            let image = image(path)?.with_channels(channels).resized(height, width).map_err(|error| {
                let problem = format!("cannot be resized ({error}); make it smaller, or take it out of the folder");
                Error::data(path.display().to_string(), problem)
            })?;
            if image.values.len() != place.len() {
                return Err(Error::data(path.display().to_string(), "it was changed while it was read; read it again"));
            }
            place.copy_from_slice(&image.values);
            Ok(())
        };
        threads::start_global()?;
        // An image has bytes: `Dataset` refuses images without pixels.
        let places = pixels.par_chunks_exact_mut(values.unwrap_or(0).max(1));
        // Of several files that are no images, the first one is named.
        let done: Vec<Result<()>> = places.zip(list.par_iter()).map(bring).collect();
        done.into_iter().collect::<Result<()>>()?;
        let labels = list.iter().map(|(_, label)| *label).collect();
        Dataset::with_channels(pixels, labels, [height, width, channels], class_names.clone())
    };
    Ok([dataset(&lists[0])?, dataset(&lists[1])?])
}

/// The form that [`read`] gives to images, without decoding them. As their files are decoded, so is a picture: it is
/// stretched, and its transparency dropped.
///
/// # Errors
/// As [`read`], as far as the files' heads show it.
pub(super) fn form(folder: &Path, size: usize) -> Result<Form> {
    let (class_names, classes) = classes(folder)?;
    let paths = classes.iter().flat_map(|class| class.train.iter().chain(&class.test));
    let [height, width, channels] = common(paths, size)?;
    Ok(Form { extents: [height, width], channels, class_names, recipe: Recipe::Stretched })
}

/// What all images have in common, by their files' heads: height, width and channels. Of images of several sizes it is
/// `size` x `size`.
fn common<'a>(paths: impl Iterator<Item = &'a PathBuf>, size: usize) -> Result<[usize; 3]> {
    let headers = paths.map(|path| header(path)).collect::<Result<Vec<Header>>>()?;
    let channels = if headers.iter().all(|header| header.channels == 1) { 1 } else { 3 };
    let extents = |header: &Header| [header.height, header.width];
    let first = headers.first().map(extents);
    let same = first.filter(|first| headers.iter().all(|header| extents(header) == *first));
    let [height, width] = same.unwrap_or([size; 2]);
    Ok([height, width, channels])
}

/// The images of all classes with their labels: the first of each class, then the second of each, so that the first so many
/// are of all classes.
fn interleaved(classes: &[Class], paths: fn(&Class) -> &Vec<PathBuf>) -> Vec<(&PathBuf, u8)> {
    let longest = classes.iter().map(|class| paths(class).len()).max().unwrap_or(0);
    let labelled = |place: usize| {
        let of_class = move |(label, class)| paths(class).get(place).map(|path| (path, label as u8));
        classes.iter().enumerate().filter_map(of_class)
    };
    (0..longest).flat_map(labelled).collect()
}

/// The classes in a folder in the order of their names: the names, and the paths of their images.
fn classes(folder: &Path) -> Result<(Vec<String>, Vec<Class>)> {
    let split = [folder.join("train"), folder.join("test")];
    let refuse = |what: &Path, problem: String| Err(Error::data(what.display().to_string(), problem));
    let mut classes = Vec::new();
    let names = match [presence::is_folder(&split[0])?, presence::is_folder(&split[1])?] {
        [true, true] => {
            let [train, test] = &split;
            let names = subfolders(train)?;
            if let Some(unknown) = subfolders(test)?.into_iter().find(|name| !names.contains(name)) {
                let problem =
                    format!("the class is in test but not in train; add {}", train.join(unknown.clone()).display());
                return refuse(&test.join(unknown), problem);
            }
            for name in &names {
                let paths = images(&train.join(name))?;
                let held_out = test.join(name);
                let test = if presence::is_folder(&held_out)? { images(&held_out)? } else { Vec::new() };
                if paths.is_empty() {
                    return refuse(&train.join(name), NO_IMAGES.into());
                }
                classes.push(Class { train: paths, test });
            }
            names
        }
        [false, false] => {
            let names = subfolders(folder)?;
            for name in &names {
                let paths = images(&folder.join(name))?;
                if paths.len() < 2 {
                    let problem = match paths.len() {
                        0 => NO_IMAGES,
                        _ => "a class needs two images at least, one to train on and one to test with",
                    };
                    return refuse(&folder.join(name), problem.into());
                }
                let (test, train): (Vec<_>, Vec<_>) =
                    paths.into_iter().enumerate().partition(|(place, _)| place.is_multiple_of(EVERY));
                let without_places = |paths: Vec<(usize, PathBuf)>| paths.into_iter().map(|(_, path)| path).collect();
                classes.push(Class { train: without_places(train), test: without_places(test) });
            }
            names
        }
        [train, _] => {
            let (there, absent) = if train { ("train", "test") } else { ("test", "train") };
            return refuse(
                folder,
                format!("there is a folder {there}, but no folder {absent}; a data set has both, or neither"),
            );
        }
    };
    if names.is_empty() {
        let problem =
            "there are no folders of images; it should have train/CLASS and test/CLASS, or a folder for each class";
        return refuse(folder, problem.into());
    }
    if classes.iter().all(|class| class.test.is_empty()) {
        return refuse(&split[1], "there are no images to test with".into());
    }
    if names.len() > 256 {
        return refuse(folder, format!("{} classes are more than the 256 that a label can name", names.len()));
    }
    Ok((names, classes))
}

const NO_IMAGES: &str = "there are no images; a class is a folder of .png, .jpg or .jpeg files";

/// The entries of a folder that are not hidden, sorted by name: file names and paths.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| Error::data(folder.join(name).display().to_string(), "the name is not UTF-8; rename it"))?;
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn subfolders(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, path) in entries(folder)? {
        if presence::is_folder(&path)? {
            names.push(name);
        }
    }
    Ok(names)
}

fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        extension.is_some_and(|extension| ["png", "jpg", "jpeg"].iter().any(|known| extension == *known))
    };
    let mut paths = Vec::new();
    for (_, path) in entries(folder)? {
        if is_image(&path) && presence::is_file(&path)? {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The head of an image's file.
fn header(path: &Path) -> Result<Header> {
    let (file, bytes) = open(path)?;
    decode::header(file, bytes).map_err(refuse(path))
}

/// The image in a file, without the transparency.
fn image(path: &Path) -> Result<Image> {
    let (file, bytes) = open(path)?;
    decode::image(file, bytes, false).map(Image::opaque).map_err(refuse(path))
}

/// The file and its length.
fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    Ok((BufReader::new(file), bytes))
}

fn refuse(path: &Path) -> impl FnOnce(Problem) -> Error {
    move |problem| {
        let problem = match problem {
            Problem::NoImage(_) if File::open(path).is_ok_and(is_web_page) => "is a web page, not an image".into(),
            problem => problem.to_string(),
        };
        Error::data(path.display().to_string(), format!("{problem}; replace it, or take it out of the folder"))
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use image::{DynamicImage, GrayImage, Rgb, RgbImage, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;
    use crate::data::Resizer;

    /// A folder with these images, saved under their paths.
    fn folder(images: &[(&str, DynamicImage)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, image) in images {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image.save(path).unwrap();
        }
        folder
    }

    fn grey(width: u32, height: u32, level: u8) -> DynamicImage {
        GrayImage::from_pixel(width, height, image::Luma([level])).into()
    }

    fn rgb(width: u32, height: u32, colour: [u8; 3]) -> DynamicImage {
        RgbImage::from_pixel(width, height, Rgb(colour)).into()
    }

    fn problem(folder: &TempDir) -> String {
        read(folder.path(), 4).unwrap_err().to_string()
    }

    #[test]
    fn classes_are_sorted_and_training_and_test_images_kept_apart() {
        let folder = folder(&[
            ("train/dog/2.png", rgb(3, 2, [4, 5, 6])),
            ("train/dog/1.PNG", rgb(3, 2, [1, 2, 3])),
            ("train/cat/a.png", rgb(3, 2, [7, 8, 9])),
            ("test/dog/x.png", rgb(3, 2, [10, 11, 12])),
        ]);
        fs::write(folder.path().join("train/README"), "no class").unwrap();
        fs::write(folder.path().join("train/dog/notes.txt"), "no image").unwrap();
        fs::create_dir(folder.path().join("train/.hidden")).unwrap();
        let [train, test] = read(folder.path(), 99).unwrap();
        assert_eq!(train.class_names(), ["cat", "dog"]);
        assert_eq!((train.height(), train.width(), train.channels()), (2, 3, 3));
        assert_eq!((train.labels(), test.labels()), (&[0, 1, 1][..], &[1][..]));
        assert_eq!(train.image(0)[..6], [7, 8, 9, 7, 8, 9]);
        assert_eq!((train.image(1)[0], train.image(2)[0], test.image(0)[0]), (1, 4, 10));
    }

    #[test]
    fn the_first_and_every_tenth_image_of_a_class_is_for_testing() {
        let name = |class: &str, i: usize| format!("{class}/{i:02}.png");
        let names: Vec<(String, u8)> =
            (0..21).map(|i| (name("a", i), i as u8)).chain([(name("b", 0), 50), (name("b", 1), 51)]).collect();
        let images: Vec<(&str, DynamicImage)> =
            names.iter().map(|(name, level)| (name.as_str(), grey(2, 2, *level))).collect();
        let folder = folder(&images);
        let [train, test] = read(folder.path(), 4).unwrap();
        let levels = |dataset: &Dataset| (0..dataset.len()).map(|i| dataset.image(i)[0]).collect::<Vec<_>>();
        assert_eq!(levels(&test), [0, 50, 10, 20], "class after class in turn");
        assert_eq!(levels(&train), [1, 51].into_iter().chain(2..10).chain(11..20).collect::<Vec<_>>());
        assert_eq!((train.channels(), train.classes(), train.len()), (1, 2, 19));
        // A second reading gives the same split.
        assert_eq!(read(folder.path(), 4).unwrap(), [train, test]);
    }

    #[test]
    fn grey_images_become_rgb_among_others() {
        let transparent = RgbaImage::from_pixel(2, 2, Rgba([9, 8, 7, 0]));
        let folder = folder(&[
            ("train/a/1.png", grey(2, 2, 5)),
            ("train/a/2.png", transparent.into()),
            ("test/a/1.png", grey(2, 2, 6)),
        ]);
        let [train, test] = read(folder.path(), 4).unwrap();
        assert_eq!(train.channels(), 3);
        assert_eq!(train.image(0)[..3], [5, 5, 5]);
        assert_eq!(train.image(1)[..3], [9, 8, 7], "transparency is dropped");
        assert_eq!(test.image(0)[..3], [6, 6, 6]);
    }

    #[test]
    fn images_of_several_sizes_are_resized() {
        let wide = RgbImage::from_fn(5, 3, |x, y| Rgb([(x * 40) as u8, (y * 70) as u8, 9]));
        let folder = folder(&[
            ("train/a/1.png", wide.clone().into()),
            ("train/a/2.png", rgb(4, 4, [1, 2, 3])),
            ("test/a/1.png", rgb(1, 1, [4, 5, 6])),
        ]);
        let [train, test] = read(folder.path(), 4).unwrap();
        assert_eq!((train.height(), train.width(), test.height(), test.width()), (4, 4, 4, 4));
        let mut expected = vec![0; 48];
        let resizer = Resizer::new(3, 5, 4, 4).unwrap().with_channels(3).unwrap();
        resizer.resize(wide.as_raw(), &mut expected, &mut Vec::new()).unwrap();
        assert_eq!(train.image(0), expected);
        assert_eq!(train.image(1)[..3], [1, 2, 3]);
        assert_eq!(test.image(0)[45..], [4, 5, 6]);
    }

    #[test]
    fn jpegs_are_read_whatever_they_are_called() {
        let folder = folder(&[("a/1.jpg", rgb(8, 8, [200, 0, 0])), ("a/2.jpeg", rgb(8, 8, [0, 0, 200]))]);
        fs::rename(folder.path().join("a/2.jpeg"), folder.path().join("a/2.png")).unwrap();
        let [train, test] = read(folder.path(), 4).unwrap();
        let near = |found: &[u8], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 6);
        assert!(near(&test.image(0)[..3], [200, 0, 0]) && near(&train.image(0)[..3], [0, 0, 200]));
    }

    #[test]
    fn files_that_are_no_images_are_named() {
        let folder = folder(&[("a/1.png", grey(2, 2, 1)), ("a/2.png", grey(2, 2, 2)), ("a/3.jpg", grey(2, 2, 3))]);
        let path = folder.path().join("a/2.png");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"<html>not found</html>", b""] {
            fs::write(&path, damaged).unwrap();
            let problem = problem(&folder);
            assert!(problem.contains("a/2.png") && problem.contains("replace it"), "{problem}");
            assert_eq!(problem.contains("web page"), damaged.starts_with(b"<html"), "{problem}");
        }
    }

    /// The decoder would make grey of what is missing.
    #[test]
    fn a_jpeg_that_was_cut_short_is_named() {
        let image = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 37 + y * 101) as u8, (x * y) as u8, (y * 53) as u8]));
        let folder = folder(&[("a/1.png", grey(2, 2, 1)), ("a/2.jpg", image.into())]);
        let path = folder.path().join("a/2.jpg");
        let whole = fs::read(&path).unwrap();
        for len in [whole.len() / 2, whole.len() - 2] {
            fs::write(&path, &whole[..len]).unwrap();
            let problem = problem(&folder);
            assert!(problem.contains("a/2.jpg: has no end, so it may be cut short; replace it"), "{problem}");
        }
        // A camera may append a film.
        fs::write(&path, [&whole[..], b"\xFF\xDAfilm"].concat()).unwrap();
        read(folder.path(), 4).unwrap();
    }

    #[test]
    fn an_image_too_long_to_be_resized_is_named() {
        let folder = folder(&[("a/1.png", grey(2, 2, 1)), ("a/2.png", grey((1 << 20) + 1, 1, 2))]);
        let problem = problem(&folder);
        assert!(problem.contains("a/2.png: cannot be resized") && problem.contains("make it smaller"), "{problem}");
    }

    /// A head of 33 bytes that claims 400 MB costs none.
    #[test]
    fn a_head_that_claims_more_than_the_file_can_hold_is_refused() {
        let folder = folder(&[("a/1.png", grey(2, 2, 1)), ("a/2.png", grey(2, 2, 2))]);
        let path = folder.path().join("a/2.png");
        let mut png = fs::read(&path).unwrap();
        png[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        fs::write(&path, png).unwrap();
        let problem = problem(&folder);
        assert!(problem.contains("a/2.png: claims more pixels than its bytes"), "{problem}");
    }

    #[test]
    fn folders_of_another_layout_are_refused() {
        let one = || grey(1, 1, 0);
        for (images, says) in [
            (vec![("1.png", one())], "no folders of images"),
            (vec![("train/a/1.png", one())], "a folder train, but no folder test"),
            (vec![("test/a/1.png", one())], "a folder test, but no folder train"),
            (vec![("train/a/1.png", one()), ("test/b/1.png", one())], "test/b: the class is in test but not in train"),
            (vec![("a/1.png", one())], "/a: a class needs two images"),
        ] {
            let problem = problem(&folder(&images));
            assert!(problem.contains(says), "{problem}");
        }
        let empty = folder(&[("train/a/1.png", one()), ("test/a/1.png", one())]);
        fs::create_dir(empty.path().join("train/b")).unwrap();
        assert!(problem(&empty).contains("train/b: there are no images"), "{}", problem(&empty));
        fs::remove_dir(empty.path().join("train/b")).unwrap();
        fs::remove_file(empty.path().join("test/a/1.png")).unwrap();
        assert!(problem(&empty).contains("no images to test with"), "{}", problem(&empty));
    }
}
