//! Small images as text, side by side: two pixels a letter, one above the other, in the terminal's colours, or in shades
//! of ASCII.

use std::fmt::Write as _;

use super::super::screen::{Colours, Screen};
use mlpconv::Result;
use mlpconv::data::Resizer;

/// Letters from dark to light, for a dark terminal.
const SHADES: &[u8; 10] = b" .:-=+*#%@";
/// Columns below which an image cannot be made out.
const LEAST: usize = 14;

/// Images of one size.
pub struct Mosaic {
    screen: Screen,
    /// Height and width of an image on the screen, in pixels.
    extents: [usize; 2],
    channels: usize,
    resizer: Resizer,
}

impl Mosaic {
    /// Of images of the extents `[height, width, channels]`, as large as they are, or smaller where `beside` of them would not
    /// fit beside each other.
    ///
    /// # Errors
    /// As [`Resizer::new`].
    pub fn new([height, width, channels]: [usize; 3], beside: usize, screen: Screen) -> Result<Self> {
        let room = ((screen.columns + 1) / beside.max(1)).saturating_sub(1);
        let columns = room.max(LEAST).min(width).min(screen.columns);
        let rows = (height * columns / width).max(1);
        let resizer = Resizer::new(height, width, rows, columns)?.with_channels(channels)?;
        Ok(Mosaic { screen, extents: [rows, columns], channels, resizer })
    }

    /// The lines of images, which continue below where they do not fit beside each other.
    ///
    /// # Errors
    /// As [`Resizer::resize`].
    pub fn lines(&self, images: &[&[u8]]) -> Result<Vec<String>> {
        let [rows, columns] = self.extents;
        let mut small = Vec::new();
        for image in images {
            let mut pixels = vec![0; rows * columns * self.channels];
            self.resizer.resize(image, &mut pixels, &mut Vec::new())?;
            small.push(pixels);
        }
        let beside = ((self.screen.columns + 1) / (columns + 1)).max(1);
        let line = |row: usize, images: &[Vec<u8>]| {
            let parts: Vec<String> = images.iter().map(|image| self.line(image, row)).collect();
            let line = parts.join(" ");
            if self.screen.colours == Colours::None { line.trim_end().to_owned() } else { line }
        };
        Ok(small.chunks(beside).flat_map(|images| (0..rows).step_by(2).map(move |row| line(row, images))).collect())
    }

    /// Two rows of an image.
    fn line(&self, image: &[u8], row: usize) -> String {
        let [rows, columns] = self.extents;
        let pixel = |row: usize, column: usize| {
            let pixel = &image[(row * columns + column) * self.channels..][..self.channels];
            // Grey, or the first three channels.
            [0, 1, 2].map(|channel| pixel[if self.channels >= 3 { channel } else { 0 }])
        };
        let mut line = String::new();
        let mut present = None;
        for column in 0..columns {
            let upper = pixel(row, column);
            let lower = (row + 1 < rows).then(|| pixel(row + 1, column));
            if self.screen.colours == Colours::None {
                line.push(shade(upper, lower.unwrap_or(upper)));
                continue;
            }
            if present != Some((upper, lower)) {
                present = Some((upper, lower));
                line += "\x1b[0";
                self.code(&mut line, 38, upper);
                lower.iter().for_each(|lower| self.code(&mut line, 48, *lower));
                line.push('m');
            }
            line.push('▀');
        }
        if present.is_some() {
            line += "\x1b[0m";
        }
        line
    }

    /// The end of a code that selects a colour of letters (38) or of what is behind them (48).
    fn code(&self, line: &mut String, what: u8, [r, g, b]: [u8; 3]) {
        // Writing to a string never fails.
        let _ = match self.screen.colours {
            Colours::True => write!(line, ";{what};2;{r};{g};{b}"),
            _ => write!(line, ";{what};5;{}", palette([r, g, b])),
        };
    }
}

/// The letter for two pixels.
fn shade(upper: [u8; 3], lower: [u8; 3]) -> char {
    let light: usize = upper.iter().chain(&lower).map(|level| usize::from(*level)).sum();
    char::from(SHADES[light * SHADES.len() / (6 * 255 + 1)])
}

/// The nearest of xterm's 256 colours: 24 greys from 232 on, and a cube of 6x6x6 from 16 on.
fn palette([r, g, b]: [u8; 3]) -> u8 {
    if r == g && g == b && (4..=246).contains(&r) {
        // Levels 8, 18 ... 238.
        return 232 + ((r.max(8) - 8 + 5) / 10).min(23);
    }
    // Levels 0, 95, 135 ... 255.
    let side = |level: u8| if level < 48 { 0 } else { (level.max(75) - 35) / 40 };
    16 + 36 * side(r) + 6 * side(g) + side(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(columns: usize, colours: Colours) -> Screen {
        Screen { columns, unicode: true, colours }
    }

    #[test]
    fn images_without_colours_are_letters() {
        let mosaic = Mosaic::new([4, 2, 1], 2, screen(5, Colours::None)).unwrap();
        let (black, white) = ([0; 8], [255; 8]);
        assert_eq!(mosaic.lines(&[&white, &black]).unwrap(), ["@@", "@@"]);
        assert_eq!(mosaic.lines(&[&black, &white]).unwrap(), ["   @@", "   @@"]);
        assert_eq!(mosaic.lines(&[&white, &white, &white]).unwrap().len(), 4, "they continue below");
    }

    #[test]
    fn images_in_colours_set_both_pixels_of_a_letter() {
        let image = [1, 2, 3, 4, 5, 6];
        let line = |colours| Mosaic::new([2, 1, 3], 1, screen(80, colours)).unwrap().lines(&[&image]).unwrap();
        assert_eq!(line(Colours::True), ["\x1b[0;38;2;1;2;3;48;2;4;5;6m▀\x1b[0m"]);
        assert_eq!(line(Colours::Palette), ["\x1b[0;38;5;16;48;5;16m▀\x1b[0m"]);
        assert_eq!([[0; 3], [255; 3], [128; 3], [255, 0, 0], [95, 135, 255]].map(palette), [16, 231, 244, 196, 69]);
    }

    #[test]
    fn images_shrink_until_they_fit_but_not_beyond_recognition() {
        let columns = |width, beside, columns| {
            Mosaic::new([28, width, 1], beside, screen(columns, Colours::None)).unwrap().extents[1]
        };
        assert_eq!(columns(28, 2, 80), 28);
        assert_eq!(columns(28, 4, 79), 19);
        assert_eq!(columns(28, 50, 80), LEAST);
        assert_eq!(columns(8, 50, 80), 8);
        assert_eq!(columns(28, 5, 10), 10);
    }
}
