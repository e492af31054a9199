//! Examples of a data set as a page, or as a picture with a row for each class.

use std::path::Path;

use maud::html;
use mlpconv::{Error, Result};

use super::super::exercise::findings::Table;
use super::super::page::{self, Page};
use super::super::report::picture::Picture;
use super::show::Examples;

/// The least width of an image in a picture, to which it is enlarged by whole factors.
const LEAST: usize = 56;
/// Pixels between the images of a picture.
const GAP: usize = 4;
/// The grey level between them.
const BETWEEN: f32 = 96.0;
/// The most pixels of a picture.
const MOST: usize = 1 << 26;
/// The longest side of an image of a page, in pixels.
const SIDE: u32 = 96;

/// The format of a file, by the end of its name.
#[derive(Clone, Copy)]
pub enum Format {
    Page,
    Png,
}

impl Format {
    /// # Errors
    /// [`Error::Config`] for another end.
    pub fn of(path: &Path) -> Result<Self> {
        let end = path.extension().map(|end| end.to_ascii_lowercase());
        match end.as_ref().and_then(|end| end.to_str()) {
            Some("html") => Ok(Format::Page),
            Some("png") => Ok(Format::Png),
            _ => Err(refuse(format!("{} ends neither in .html nor in .png", path.display()))),
        }
    }
}

fn refuse(problem: String) -> Error {
    Error::Config { what: "out".into(), problem }
}

/// The examples as a page: a table of the classes, and a section for each of them.
pub fn page(examples: &Examples, title: &str, table: &Table) -> Page {
    let data = &examples.data;
    let lead = html! { p { "Training images of each class, and how many images there are." } };
    let mut page = Page::new(title, lead);
    page.section("Images of each class", page::table(&table.head, &table.rows));
    for (name, images) in data.class_names().iter().zip(&examples.of_classes) {
        let gallery = html! {
            ul.gallery {
                @for &i in images {
                    li.card {
                        img.pixels src=(Picture::of_image(data, i).within(SIDE, false).data())
                            alt=(format_args!("Training image {i} of class {name}"));
                        small { "image " (i) }
                    }
                }
            }
        };
        page.section(name, gallery);
    }
    page
}

/// The examples as a PNG file.
///
/// # Errors
/// [`Error::Config`] for a picture that is too large.
pub fn png(examples: &Examples) -> Result<Vec<u8>> {
    let data = &examples.data;
    let (height, width, channels) = (data.height(), data.width(), data.channels());
    let scale = LEAST.div_ceil(width);
    let [down, right] = [height, width].map(|length| length * scale + GAP);
    let (rows, columns) = (data.classes().saturating_mul(down), examples.most().saturating_mul(right));
    if rows.saturating_mul(columns) > MOST {
        return Err(refuse(format!("a picture of {columns}x{rows} pixels is too large; make --examples smaller")));
    }
    let pixel = |y: usize, x: usize| {
        let image = examples.of_classes[y / down].get(x / right);
        let (y, x) = (y % down / scale, x % right / scale);
        match image {
            Some(&image) if y < height && x < width => {
                let pixel = &data.image(image)[(y * width + x) * channels..][..channels];
                [0, 1, 2].map(|channel| f32::from(pixel[if channels >= 3 { channel } else { 0 }]))
            }
            _ => [BETWEEN; 3],
        }
    };
    // No gap after the last image.
    Ok(Picture::new(rows - GAP, columns.saturating_sub(GAP).max(1), pixel).png())
}
