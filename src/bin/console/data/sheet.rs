//! Examples of a data set as a picture: a PNG file with a row for each class.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use mlpconv::weights::write_whole;
use mlpconv::{Error, Result};

use super::show::Examples;

/// The least width of an image in the picture, to which it is enlarged by whole factors.
const LEAST: usize = 56;
/// Pixels between images.
const GAP: usize = 4;
/// The colour between images.
const BETWEEN: Rgb<u8> = Rgb([96, 96, 96]);
/// The most pixels of a picture.
const MOST: usize = 1 << 26;

/// The format of a file, by the end of its name.
pub enum Format {
    Png,
}

impl Format {
    /// # Errors
    /// [`Error::Config`] for another end.
    pub fn of(path: &Path) -> Result<Self> {
        let end = path.extension().map(|end| end.to_ascii_lowercase());
        match end.as_ref().and_then(|end| end.to_str()) {
            Some("png") => Ok(Format::Png),
            _ => Err(refuse(format!("{} does not end in .png", path.display()))),
        }
    }

    /// Writes the examples to a file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Config`] for a picture that is too large; [`Error::Io`] if the file cannot be written.
    pub fn write(&self, examples: &Examples, _title: &str, path: &Path) -> Result<()> {
        match self {
            Format::Png => write_whole(path, &png(examples)?),
        }
    }
}

fn refuse(problem: String) -> Error {
    Error::Config { what: "out".into(), problem }
}

/// The examples as a PNG file.
fn png(examples: &Examples) -> Result<Vec<u8>> {
    let data = &examples.data;
    let (height, width, channels) = (data.height(), data.width(), data.channels());
    let scale = LEAST.div_ceil(width).max(1);
    let columns = examples.of_classes.iter().map(Vec::len).max().unwrap_or(0);
    let side = |count: usize, length: usize| count * (length * scale + GAP) + GAP;
    let (right, down) = (side(columns, width), side(data.classes(), height));
    if right.saturating_mul(down) > MOST {
        return Err(refuse(format!("a picture of {right}x{down} pixels is too large; make --examples smaller")));
    }
    let mut sheet = RgbImage::from_pixel(right as u32, down as u32, BETWEEN);
    for class in 0..data.classes() {
        for (column, image) in examples.images(class).into_iter().enumerate() {
            let (left, top) = (side(column, width), side(class, height));
            for y in 0..height * scale {
                for x in 0..width * scale {
                    let pixel = &image[(y / scale * width + x / scale) * channels..][..channels];
                    let rgb = [0, 1, 2].map(|channel| pixel[if channels >= 3 { channel } else { 0 }]);
                    sheet.put_pixel((left + x) as u32, (top + y) as u32, Rgb(rgb));
                }
            }
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    sheet.write_to(&mut bytes, ImageFormat::Png).map_err(|error| refuse(error.to_string()))?;
    Ok(bytes.into_inner())
}
