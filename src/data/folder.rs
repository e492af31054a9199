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

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Dataset, Resizer};
use crate::error::{Error, Result};

/// Test images in the layout `DIR/CLASS/*`: those of a class whose position, from 0, is a multiple of this.
const EVERY: usize = 10;

/// The images of one class.
struct Class {
    train: Vec<PathBuf>,
    test: Vec<PathBuf>,
}

/// Reads the images to train on and those to test with. If all images have one size they keep it, else [`Resizer`]
/// brings them to `size` x `size`.
///
/// # Errors
/// [`Error::Data`] names the folder that has neither layout, the class without images, or the file that is no image;
/// [`Error::Io`] where the system cannot read a folder or a file.
pub(super) fn read(folder: &Path, size: usize) -> Result<[Dataset; 2]> {
    let (class_names, classes) = classes(folder)?;
    let lists = [interleaved(&classes, |class| &class.train), interleaved(&classes, |class| &class.test)];
    let all = || lists.iter().flatten();
    // The files' heads say what all images have in common, before any of them is decoded.
    let headers = all().map(|(path, _)| decode::header(path)).collect::<Result<Vec<Header>>>()?;
    let channels = if headers.iter().all(|header| header.channels == 1) { 1 } else { 3 };
    let extents = |header: &Header| [header.height, header.width];
    let first = headers.first().map(extents);
    let same = first.filter(|first| headers.iter().all(|header| extents(header) == *first));
    let [height, width] = same.unwrap_or([size; 2]);
    let dataset = |list: &[(&PathBuf, u8)]| {
        let brought = |(path, _): &(&PathBuf, u8)| decode::image(path)?.with_channels(channels).resized(height, width);
        // Of several files that are no images, the first one is named.
        let images: Vec<Result<Image>> = list.par_iter().map(brought).collect();
        let mut pixels = Vec::with_capacity(images.len() * height * width * channels);
        for image in images {
            pixels.extend(image?.values);
        }
        let labels = list.iter().map(|(_, label)| *label).collect();
        Dataset::with_channels(pixels, labels, [height, width, channels], class_names.clone())
    };
    Ok([dataset(&lists[0])?, dataset(&lists[1])?])
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
    let names = match split.each_ref().map(|folder| folder.is_dir()) {
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
                let test = if held_out.is_dir() { images(&held_out)? } else { Vec::new() };
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
    Ok(entries(folder)?.into_iter().filter(|(_, path)| path.is_dir()).map(|(name, _)| name).collect())
}

fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        extension.is_some_and(|extension| ["png", "jpg", "jpeg"].iter().any(|known| extension == *known))
    };
    Ok(entries(folder)?.into_iter().map(|(_, path)| path).filter(|path| is_image(path) && path.is_file()).collect())
}

/// The extents that an image's file states in its head.
struct Header {
    height: usize,
    width: usize,
    /// 1 or 3.
    channels: usize,
}

/// A decoded image, in the size of its file.
struct Image {
    height: usize,
    width: usize,
    /// 1 or 3.
    channels: usize,
    values: Vec<u8>,
}

impl Image {
    /// The image with `channels` channels: a grey level is repeated three times for RGB.
    fn with_channels(self, channels: usize) -> Self {
        if self.channels == channels {
            return self;
        }
        let values = self.values.into_iter().flat_map(|grey| [grey; 3]).collect();
        Image { channels, values, ..self }
    }

    fn resized(self, height: usize, width: usize) -> Result<Self> {
        if [self.height, self.width] == [height, width] {
            return Ok(self);
        }
        let resizer = Resizer::new(self.height, self.width, height, width)?.with_channels(self.channels)?;
        let mut values = vec![0; height * width * self.channels];
        resizer.resize(&self.values, &mut values, &mut Vec::new())?;
        Ok(Image { height, width, values, ..self })
    }
}

#[cfg(feature = "images")]
mod decode {
    use std::path::Path;

    use image::{ColorType, ImageDecoder, ImageError, ImageReader};

    use super::{Header, Image};
    use crate::error::{Error, Result};

    /// The file as a reader of the format that its content has, whatever its name says.
    fn open(path: &Path) -> Result<ImageReader<std::io::BufReader<std::fs::File>>> {
        ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Error::io("read", path))
    }

    fn refuse(path: &Path) -> impl FnOnce(ImageError) -> Error {
        move |error| {
            let problem = format!("cannot be read as an image ({error}); replace it, or take it out of the folder");
            Error::data(path.display().to_string(), problem)
        }
    }

    /// 1 for grey levels, 3 for anything else, which becomes RGB.
    fn channels(color: ColorType) -> usize {
        match color {
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16 => 1,
            _ => 3,
        }
    }

    /// The most bits of an image in a byte of its file. Deflate (PNG) makes at most 1032 of one, JPEG about as many.
    const MOST_BITS: u64 = 8 * 1032;

    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`Error::Data`] for a head that claims more pixels than a file of its size can hold: a decoder would make room
    /// for all of them, and fill it.
    pub(super) fn header(path: &Path) -> Result<Header> {
        let bytes = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        let decoder = open(path)?.into_decoder().map_err(refuse(path))?;
        let (width, height) = decoder.dimensions();
        let bits = u64::from(decoder.original_color_type().bits_per_pixel());
        if (u64::from(width) * u64::from(height)).saturating_mul(bits) > MOST_BITS.saturating_mul(bytes) {
            let problem =
                format!("{bytes} bytes cannot hold {width}x{height} pixels; replace it, or take it out of the folder");
            return Err(Error::data(path.display().to_string(), problem));
        }
        Ok(Header { height: height as usize, width: width as usize, channels: channels(decoder.color_type()) })
    }

    /// Decodes a file.
    pub(super) fn image(path: &Path) -> Result<Image> {
        let image = open(path)?.decode().map_err(refuse(path))?;
        let (height, width, channels) = (image.height() as usize, image.width() as usize, channels(image.color()));
        let values = match channels {
            1 => image.into_luma8().into_raw(),
            _ => image.into_rgb8().into_raw(),
        };
        Ok(Image { height, width, channels, values })
    }
}

#[cfg(not(feature = "images"))]
mod decode {
    use std::path::Path;

    use super::{Header, Image};
    use crate::error::{Error, Result};

    fn refuse(path: &Path) -> Error {
        let problem = "this build cannot decode images; build it with the cargo feature images";
        Error::data(path.display().to_string(), problem)
    }

    pub(super) fn header(path: &Path) -> Result<Header> {
        Err(refuse(path))
    }

    pub(super) fn image(path: &Path) -> Result<Image> {
        Err(refuse(path))
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use image::{DynamicImage, GrayImage, Rgb, RgbImage, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;

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
        }
    }

    #[test]
    fn a_small_file_that_claims_many_pixels_is_refused_before_it_is_decoded() {
        let folder = folder(&[("a/1.png", grey(2, 2, 1)), ("a/2.jpg", grey(9, 7, 2)), ("b/1.png", grey(2, 2, 3))]);
        let path = folder.path().join("a/2.jpg");
        let mut bytes = fs::read(&path).unwrap();
        let extents = bytes.windows(4).position(|window| window == [0, 7, 0, 9]).unwrap();
        bytes[extents..extents + 4].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
        fs::write(&path, &bytes).unwrap();
        fs::copy(folder.path().join("b/1.png"), folder.path().join("b/2.png")).unwrap();
        let problem = problem(&folder);
        assert!(problem.contains("a/2.jpg") && problem.contains("cannot hold 20000x20000 pixels"), "{problem}");
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
