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
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Invert::Auto),
            "yes" => Ok(Invert::Yes),
            "no" => Ok(Invert::No),
            _ => Err(format!("{text:?} is none of auto, yes and no")),
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
    /// [`Error::Data`] for what is no PNG or JPEG file, is damaged, or claims more than 512 MiB of pixels, or more than its
    /// bytes can hold; [`Error::Io`] where it cannot be read.
    pub fn read(&self, name: &str, mut reader: impl Read, invert: Invert) -> Result<Converted> {
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
            Problem::TooLarge | Problem::NoDecoder => Error::data(name, problem.to_string()),
        })?;
        self.convert(image, invert)
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
