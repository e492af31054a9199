//! Text within pictures, which wraps by no rule of a browser: how wide it is, about, and what of it fits.

/// Height of a line of text, in the units of a picture: enough for the larger letters of a narrow screen.
pub const LINE: f64 = 23.0;

/// Width of a Latin letter at most, about, as on a narrow screen.
const LETTER: f64 = 10.0;

/// The width of a text in the units of a picture, about.
pub fn width(text: &str) -> f64 {
    text.chars().map(letter).sum()
}

fn letter(letter: char) -> f64 {
    // From here on are the scripts whose letters fill a square.
    if letter >= '\u{1100}' { 2.0 * LETTER } else { LETTER }
}

/// The text if it fits into `room`, or else the beginning of it that fits, and an ellipsis.
pub fn fitting(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room - LETTER;
    let fits = |c: &char| {
        left -= letter(*c);
        left >= 0.0
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_in_an_ellipsis() {
        assert_eq!(fitting("Shirt", 50.0), "Shirt");
        assert_eq!(fitting("Shirts", 50.0), "Shir…");
        assert_eq!(fitting("踝靴和包", 50.0), "踝靴…");
        assert_eq!(fitting("Shirt", 0.0), "…");
    }
}
