//! The form that all images of a data set have, and how a picture of any size, colour and depth is brought to it.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::str::FromStr;

use super::content::{fill, is_web_page};
use super::decode::{self, Image, Problem};
use super::recipe::{Recipe, is_light};
use crate::error::{Error, Result};

/// What the images of a data set have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Height and width.
    pub extents: [usize; 2],
    /// 1 for grey images, 3 for RGB.
    pub channels: usize,
    /// The names of the classes, indexed by label.
    pub class_names: Vec<String>,
    /// How pictures of any size became the images.
    pub recipe: Recipe,
}

/// Whether a picture's levels are negated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invert {
    /// Where the images of the data set lie on black and the picture on a light background: three fifths of its outermost
    /// pixels are lighter than mid grey.
    #[default]
    Auto,
    Yes,
    No,
}

impl FromStr for Invert {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Invert::Auto),
            "yes" => Ok(Invert::Yes),
            "no" => Ok(Invert::No),
            _ => Err(Error::config("invert", format!("{text:?} is none of auto, yes and no"))),
        }
    }
}

/// A picture in a data set's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// `[height, width, channels]`, a byte a channel, as [`Dataset`](super::Dataset) holds images.
    pub pixels: Vec<u8>,
    /// Whether the levels were negated.
    pub inverted: bool,
}

/// The most bytes of a picture's file. A decoded one has no more, either.
const MOST: u64 = 512 << 20;
/// The first bytes of a file, by which its format is told.
const HEAD: usize = 64;

impl Form {
    /// [`Form::read`] from a file.
    ///
    /// # Errors
    /// As [`Form::read`]; [`Error::Io`] for a file that cannot be opened.
    pub fn open(&self, path: &Path, invert: Invert) -> Result<Converted> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        self.read(&path.display().to_string(), file, invert)
    }

    /// Reads a picture, a PNG or JPEG file of any size, colour and depth, and brings it to this form by the data set's
    /// [recipe](Form::recipe). `name` names it in errors. Memory follows the file's size, and is limited, whatever the
    /// file claims.
    ///
    /// Colours become 8 bits a channel, and grey where the form is. A picture is turned upright as its camera noted.
    /// A transparent one is laid over white, or over black if its visible pixels are light on average, so that it stands out.
    /// (A picture for [`Recipe::Stretched`] is neither turned nor laid over anything.)
    ///
    /// An opaque grey picture of the form's extents on a dark background is not changed in any bit.
    ///
    /// # Errors
    /// [`Error::Config`] for extents without pixels or of more than 512 MiB, and for channels other than 1 and 3;
    /// [`Error::Data`] for what is no PNG or JPEG file, is damaged or cut short, or claims more than 512 MiB of pixels, or more
    /// than its bytes can hold, and for a picture to be resized that has more than 2^20 pixels on a side; [`Error::Io`] where
    /// it cannot be read.
    pub fn read(&self, name: &str, mut reader: impl Read, invert: Invert) -> Result<Converted> {
        self.validate()?;
        let refuse = |problem: &str| Error::data(name, format!("{problem}; name a PNG or JPEG file"));
        let mut bytes = vec![0; HEAD];
        let found = fill(&mut reader, &mut bytes).map_err(Error::io("read", name))?;
        bytes.truncate(found);
        if bytes.is_empty() {
            return Err(refuse("is empty"));
        }
        if !decode::is_known(&bytes) {
            let problem = if is_web_page(&bytes[..]) { "is a web page" } else { "is neither a PNG nor a JPEG file" };
            return Err(refuse(problem));
        }
        reader.take(MOST - HEAD as u64 + 1).read_to_end(&mut bytes).map_err(Error::io("read", name))?;
        let length = bytes.len() as u64;
        if length > MOST {
            return Err(Error::data(name, format!("is larger than {} MiB; make it smaller", MOST >> 20)));
        }
        let upright = self.recipe != Recipe::Stretched;
        let image = decode::image(Cursor::new(bytes), length, upright);
        let image = image.map_err(|problem| match problem {
            Problem::NoImage(_) => refuse(&problem.to_string()),
            Problem::CutShort => Error::data(name, format!("{problem}; get the file again")),
            Problem::TooLarge | Problem::NoDecoder => Error::data(name, problem.to_string()),
        })?;
        let unfit = |error: Error| Error::data(name, format!("cannot be resized ({error}); make it smaller"));
        self.convert(image, invert).map_err(unfit)
    }

    /// # Errors
    /// [`Error::Config`] for images without pixels or of more than [`MOST`] bytes, and for channels other than 1 and 3.
    pub(super) fn validate(&self) -> Result<()> {
        let [height, width] = self.extents;
        let bytes = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(self.channels));
        if !matches!(self.channels, 1 | 3) {
            return Err(Error::config("channels", format!("{} must be 1 or 3", self.channels)));
        }
        if bytes.is_none_or(|bytes| bytes == 0 || bytes as u64 > MOST) {
            let problem = format!("{height}x{width} must have a pixel, and {} MiB at most", MOST >> 20);
            return Err(Error::config("extents", problem));
        }
        Ok(())
    }

    fn convert(&self, image: Image, invert: Invert) -> Result<Converted> {
        let image = if self.recipe == Recipe::Stretched { image.opaque() } else { image.over_contrast() };
        let grey = matches!(self.recipe, Recipe::Trimmed(_));
        let mut image = image.with_channels(if grey { 1 } else { self.channels });
        let inverted = match invert {
            Invert::Auto => grey && is_light(&image),
            Invert::Yes => true,
            Invert::No => false,
        };
        if inverted {
            image.values.iter_mut().for_each(|level| *level = !*level);
        }
        let [height, width] = self.extents;
        let image = match self.recipe {
            _ if [image.height, image.width] == self.extents => image,
            Recipe::Trimmed(trimming) => trimming.follow(image, self.extents)?,
            Recipe::Cropped => image.middle(height, width).resized(height, width)?,
            Recipe::Stretched => image.resized(height, width)?,
        };
        Ok(Converted { pixels: image.with_channels(self.channels).values, inverted })
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;
    use crate::data::known::{CIFAR10, FASHION_MNIST, MNIST};

    fn read(form: &Form, image: impl Into<DynamicImage>, invert: Invert) -> Converted {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        form.read("picture", &bytes.get_ref()[..], invert).unwrap()
    }

    /// Something of the data set's size: grey noise within a dark border.
    fn exact() -> GrayImage {
        GrayImage::from_fn(28, 28, |x, y| match (1..27).contains(&x) && (1..27).contains(&y) {
            true => Luma([(x * 37 + y * 101) as u8]),
            false => Luma([(x % 9) as u8]),
        })
    }

    #[test]
    fn a_picture_in_the_form_is_not_changed_in_any_bit() {
        let form = FASHION_MNIST.form();
        let image = exact();
        let same = Converted { pixels: image.as_raw().clone(), inverted: false };
        assert_eq!(read(&form, image.clone(), Invert::Auto), same);
        let rgb = DynamicImage::from(image.clone()).into_rgb8();
        assert_eq!(read(&form, rgb, Invert::Auto), same, "greys of RGB");
        let opaque = DynamicImage::from(image.clone()).into_rgba8();
        assert_eq!(read(&form, opaque, Invert::No), same);
        let deep = DynamicImage::from(image.clone()).into_luma16();
        assert_eq!(read(&form, deep, Invert::Auto), same, "16 bits");
        let negative = GrayImage::from_fn(28, 28, |x, y| Luma([255 - image.get_pixel(x, y)[0]]));
        assert_eq!(read(&form, negative.clone(), Invert::Auto), Converted { inverted: true, ..same.clone() });
        let kept = Converted { pixels: negative.as_raw().clone(), inverted: false };
        assert_eq!(read(&form, negative, Invert::No), kept);
        let forced = read(&form, image, Invert::Yes);
        assert_eq!(forced, Converted { pixels: kept.pixels, inverted: true });
    }

    /// A black bar, 20 pixels high and 60 wide, on grey paper.
    #[test]
    fn edges_are_trimmed_and_the_rest_is_centred_on_black() {
        let bar = GrayImage::from_fn(200, 150, |x, y| match (30..90).contains(&x) && (100..120).contains(&y) {
            true => Luma([0]),
            false => Luma([220]),
        });
        let Converted { pixels, inverted } = read(&FASHION_MNIST.form(), bar.clone(), Invert::Auto);
        assert!(inverted);
        // 28 columns and 9 rows (20 of 60, of 28).
        let rows: Vec<usize> = (0..28).filter(|row| pixels[row * 28] > 0).collect();
        assert_eq!(rows, (9..18).collect::<Vec<_>>());
        assert!(pixels[9 * 28..18 * 28].iter().all(|level| *level == 255), "the paper is black, the bar white");
        let digits = read(&MNIST.form(), bar, Invert::Auto).pixels;
        let columns: Vec<usize> = (0..28).filter(|column| digits[14 * 28 + column] > 0).collect();
        assert_eq!(columns, (4..24).collect::<Vec<_>>(), "MNIST's digits have 20 pixels");
        for (width, height) in [(1, 1), (3000, 1), (1, 3000), (28, 29)] {
            let blank = GrayImage::from_pixel(width, height, Luma([255]));
            assert_eq!(read(&FASHION_MNIST.form(), blank, Invert::Auto).pixels, [0; 784], "{width}x{height}");
        }
    }

    #[test]
    fn the_centre_of_mass_comes_to_the_middle_of_a_digit() {
        // An L, whose mass is at the lower left.
        let digit = GrayImage::from_fn(140, 140, |x, y| {
            let within = (20..120).contains(&x) && (20..120).contains(&y);
            Luma([if within && (x < 40 || y >= 100) { 255 } else { 0 }])
        });
        let pixels = read(&MNIST.form(), digit, Invert::No).pixels;
        let columns: Vec<usize> = (0..28).filter(|column| (0..28).any(|row| pixels[row * 28 + column] > 0)).collect();
        let rows: Vec<usize> = (0..28).filter(|row| (0..28).any(|column| pixels[row * 28 + column] > 0)).collect();
        assert!(columns[0] > 4 && rows[0] < 4 && columns.len() == 20 && rows.len() == 20, "{columns:?} {rows:?}");
    }

    #[test]
    fn transparent_pictures_stand_out() {
        let form = FASHION_MNIST.form();
        for (level, inverted) in [(30, true), (230, false)] {
            let shape = |x: u32, y: u32| if (20..40).contains(&x) && (10..50).contains(&y) { 255 } else { 0 };
            let grey = GrayAlphaImage::from_fn(60, 60, |x, y| LumaA([level, shape(x, y)]));
            let rgb = RgbaImage::from_fn(60, 60, |x, y| Rgba([level, level, level, shape(x, y)]));
            let converted = read(&form, grey, Invert::Auto);
            assert_eq!(converted.inverted, inverted);
            assert!(converted.pixels[14 * 28 + 14] > 200 && converted.pixels[14 * 28 + 2] == 0, "{level}");
            assert_eq!(read(&form, rgb, Invert::Auto), converted);
        }
    }

    #[test]
    fn colours_stay_where_the_data_set_has_them() {
        let wide = RgbImage::from_fn(96, 32, |x, _| Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize / 32]));
        let middle = read(&CIFAR10.form(), wide.clone(), Invert::Auto);
        assert_eq!(middle.pixels, [0, 255, 0].repeat(32 * 32), "the middle of a wide picture");
        let stretched = Form { recipe: Recipe::Stretched, extents: [1, 3], ..CIFAR10.form() };
        let pixels = read(&stretched, wide, Invert::Auto).pixels;
        assert!(pixels[0] > 200 && pixels[4] > 150 && pixels[8] > 200, "{pixels:?}");
        let grey = GrayImage::from_pixel(32, 32, Luma([9]));
        assert_eq!(read(&CIFAR10.form(), grey, Invert::Auto).pixels, [9; 3 * 32 * 32]);
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        let form = FASHION_MNIST.form();
        let problem = |bytes: &[u8]| form.read("this", bytes, Invert::Auto).unwrap_err().to_string();
        assert_eq!(problem(b""), "this: is empty; name a PNG or JPEG file");
        assert_eq!(problem(b"words"), "this: is neither a PNG nor a JPEG file; name a PNG or JPEG file");
        assert!(problem(b"<html>").contains("web page"));
        assert!(problem(b"\x89PNG\r\n\x1a\nand no more").contains("cannot be read as an image"));
        assert_eq!(problem(b"\xFF\xD8\xFFand no more"), "this: has no end, so it may be cut short; get the file again");
        // What never ends is refused by its first bytes.
        let endless = form.read("this", std::io::repeat(0), Invert::Auto);
        assert!(endless.unwrap_err().to_string().contains("neither a PNG"));
    }

    #[test]
    fn a_picture_too_long_to_be_resized_is_refused_by_name() {
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(GrayImage::new((1 << 20) + 1, 1)).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let problem = FASHION_MNIST.form().read("this", &bytes.get_ref()[..], Invert::Auto).unwrap_err().to_string();
        assert!(problem.starts_with("this: cannot be resized") && problem.ends_with("make it smaller"), "{problem}");
    }
}
