//! How pictures of any size became the images of a data set.
//!
//! [`Recipe::Trimmed`] follows [Fashion-MNIST's](https://github.com/zalandoresearch/fashion-mnist) (section 2 of its paper):
//! trim the edges, resize the longest edge to 28 pixels, sharpen, extend the shortest edge to 28 pixels with the image in the
//! centre, negate, and keep the grey levels. It differs in three things, which make it fit photographs and drawings too:
//!
//! * The picture is resized by [`Resizer`](super::Resizer), which averages, and not by skipping rows and columns, which suits
//!   Zalando's pictures of 73 pixels but would lose the thin lines of a large one.
//! * It becomes grey first and not last, so that closeness to the background is one of grey levels.
//! * The background's level is made black. Zalando's pictures have a white one, of which negation makes black by itself.

use super::decode::Image;
use crate::error::Result;

/// How pictures of any size became the images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Grey on black, and trimmed.
    Trimmed(Trimming),
    /// The middle of the picture in the images' aspect ratio, resized.
    Cropped,
    /// The whole picture, resized whatever its aspect ratio, without its transparency, and not turned upright: as a
    /// folder of images is read.
    Stretched,
}

/// What remains of a picture when edges like its background are trimmed, on black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimming {
    /// Pixels of the longest edge.
    pub side: usize,
    /// Whether the small image is sharpened.
    pub sharpened: bool,
    /// Whether the centre of mass comes to the middle, as MNIST's digits have it, or else the image's own centre.
    pub by_mass: bool,
}

/// The grey level from which on a pixel is light.
const LIGHT: u8 = 128;
/// The distance from the background, in grey levels, up to which a pixel is trimmed: 5% of the levels, as in
/// Fashion-MNIST's recipe.
const CLOSE: u8 = 12;

/// Whether a grey image lies on a light background: three fifths of its outermost pixels are lighter than mid grey. That is
/// so of none of Fashion-MNIST's 70,000 images.
pub(super) fn is_light(grey: &Image) -> bool {
    let border = border(grey);
    border[border.len() * 2 / 5] >= LIGHT
}

/// The outermost pixels of a grey image, in increasing order.
fn border(grey: &Image) -> Vec<u8> {
    let (height, width) = (grey.height, grey.width);
    let mut border = Vec::new();
    for (y, row) in grey.values.chunks_exact(width).enumerate() {
        match y == 0 || y + 1 == height {
            true => border.extend(row),
            false => border.extend([row[0], row[width - 1]]),
        }
    }
    border.sort_unstable();
    border
}

impl Trimming {
    /// Makes a grey image whose background is dark an image of these extents.
    ///
    /// # Errors
    /// As [`Resizer::new`](super::Resizer::new).
    pub(super) fn follow(&self, grey: Image, [height, width]: [usize; 2]) -> Result<Image> {
        let side = self.side.min(height).min(width);
        let border = border(&grey);
        let background = border[border.len() / 2];
        let trimmed = trim(grey, background);
        let longest = trimmed.height.max(trimmed.width);
        // Rounded, and a pixel at least.
        let scaled = |edge: usize| ((edge * side * 2 + longest) / (longest * 2)).max(1);
        let (rows, columns) = (scaled(trimmed.height), scaled(trimmed.width));
        let mut small = trimmed.resized(rows, columns)?;
        if self.sharpened {
            small.values = sharpened(&small);
        }
        if background < LIGHT {
            small.values.iter_mut().for_each(|level| *level = above(*level, background));
        }
        let centre = if self.by_mass { mass(&small) } else { [rows as f64, columns as f64].map(|edge| edge / 2.0) };
        let place = |extent: usize, edge: usize, centre: f64| {
            (extent as f64 / 2.0 - centre).clamp(0.0, (extent - edge) as f64) as usize
        };
        let (top, left) = (place(height, rows, centre[0]), place(width, columns, centre[1]));
        let mut values = vec![0; height * width];
        for (row, line) in small.values.chunks_exact(columns).zip(values.chunks_exact_mut(width).skip(top)) {
            line[left..left + columns].copy_from_slice(row);
        }
        Ok(Image { height, width, channels: 1, values })
    }
}

/// The image without the rows and columns at its edges that are close to the background. An image of nothing else stays as
/// it is.
fn trim(grey: Image, background: u8) -> Image {
    let (mut rows, mut columns) = (grey.height..0, grey.width..0);
    for (y, row) in grey.values.chunks_exact(grey.width).enumerate() {
        let stands_out = |level: &u8| level.abs_diff(background) > CLOSE;
        let (Some(first), Some(last)) = (row.iter().position(stands_out), row.iter().rposition(stands_out)) else {
            continue;
        };
        (rows.start, rows.end) = (rows.start.min(y), y + 1);
        (columns.start, columns.end) = (columns.start.min(first), columns.end.max(last + 1));
    }
    if rows.is_empty() { grey } else { grey.part(rows, columns) }
}

/// ImageMagick's `-sharpen 1x1`: 3x3 weights that are negative Gaussians of deviation 1, but for the centre's, which is twice
/// their sum, and all of them over their sum. Edges are repeated.
fn sharpened(grey: &Image) -> Vec<u8> {
    let gauss = |distance: i32| (-f64::from(distance) / 2.0).exp();
    let (edge, corner) = (gauss(1), gauss(2));
    let around = 4.0 * (edge + corner);
    let centre = 2.0 * (1.0 + around);
    let at = |y: usize, x: usize| f64::from(grey.values[y * grey.width + x]);
    let mut values = Vec::with_capacity(grey.values.len());
    for y in 0..grey.height {
        let [above, below] = [y.saturating_sub(1), (y + 1).min(grey.height - 1)];
        for x in 0..grey.width {
            let [left, right] = [x.saturating_sub(1), (x + 1).min(grey.width - 1)];
            let edges = at(above, x) + at(below, x) + at(y, left) + at(y, right);
            let corners = at(above, left) + at(above, right) + at(below, left) + at(below, right);
            let sum = centre * at(y, x) - edge * edges - corner * corners;
            // A conversion to an integer stops at its least and greatest value.
            values.push((sum / (centre - around)).round() as u8);
        }
    }
    values
}

/// The level with the background's made black, and white left white.
fn above(level: u8, background: u8) -> u8 {
    let [level, background] = [level, background].map(u32::from);
    ((level.saturating_sub(background) * 255 + (255 - background) / 2) / (255 - background)) as u8
}

/// The centre of mass, in pixels from the top left corner; the middle of a black image.
fn mass(grey: &Image) -> [f64; 2] {
    let (mut sum, mut down, mut right) = (0.0, 0.0, 0.0);
    for (at, &level) in grey.values.iter().enumerate() {
        let level = f64::from(level);
        sum += level;
        down += level * ((at / grey.width) as f64 + 0.5);
        right += level * ((at % grey.width) as f64 + 0.5);
    }
    if sum > 0.0 { [down / sum, right / sum] } else { [grey.height as f64 / 2.0, grey.width as f64 / 2.0] }
}
