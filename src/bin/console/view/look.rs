//! The look of text on a terminal: colours, and the letters that it has.

use std::env;

use ratatui::buffer::Buffer;
use ratatui::style::Color;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub colour: bool,
    /// Whether it has braille and the lines of boxes; else it gets ASCII.
    pub braille: bool,
}

impl Look {
    /// The look for this process's terminal.
    pub fn of_environment() -> Self {
        let variable = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        Look { colour: has_colour(variable), braille: has_braille(variable) }
    }
}

/// As <https://no-color.org> and <https://bixense.com/clicolors> have it.
fn has_colour(variable: impl Fn(&'static str) -> Option<String>) -> bool {
    let is = |name, value: &str| variable(name).is_some_and(|present| present == value);
    let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    variable("NO_COLOR").is_none() && (forced || !is("CLICOLOR", "0"))
}

/// Whether the locale's letters are UTF-8, and the terminal's font has braille, which the Linux console's has not.
fn has_braille(variable: impl Fn(&'static str) -> Option<String>) -> bool {
    if cfg!(not(unix)) {
        return true;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(&variable).unwrap_or_default().to_uppercase();
    let utf8 = locale.ends_with("UTF-8") || locale.ends_with("UTF8");
    utf8 && variable("TERM").is_none_or(|terminal| terminal != "linux")
}

/// The buffer's rows as text without blanks at their ends, with codes for colours if the look has them.
pub fn lines(buffer: &Buffer, look: Look) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let row = |cells: &[ratatui::buffer::Cell]| {
        let (mut text, mut present) = (String::new(), Color::Reset);
        let used = cells.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
        for cell in &cells[..used] {
            let symbol = if look.braille { cell.symbol() } else { ascii(cell.symbol()) };
            if look.colour && symbol != " " && cell.fg != present {
                present = cell.fg;
                text += code(present);
            }
            text += symbol;
        }
        if present != Color::Reset {
            text += code(Color::Reset);
        }
        text
    };
    buffer.content.chunks(width).map(row).collect()
}

/// The code that selects a colour. The picture has no others.
fn code(colour: Color) -> &'static str {
    match colour {
        Color::Green => "\x1b[32m",
        Color::Magenta => "\x1b[35m",
        Color::Cyan => "\x1b[36m",
        Color::DarkGray => "\x1b[90m",
        _ => "\x1b[0m",
    }
}

/// What stands for a letter beyond ASCII.
fn ascii(symbol: &str) -> &str {
    match symbol {
        "│" => "|",
        "─" => "-",
        "━" => "=",
        "└" => "+",
        symbol if symbol.is_ascii() => symbol,
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &'static [(&str, &str)]) -> impl Fn(&'static str) -> Option<String> {
        |name| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn colours_are_on_unless_the_user_says_no() {
        assert!(has_colour(of(&[])));
        assert!(!has_colour(of(&[("NO_COLOR", "1")])));
        assert!(!has_colour(of(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")])));
        assert!(!has_colour(of(&[("CLICOLOR", "0")])));
        assert!(has_colour(of(&[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "1")])));
        assert!(!has_colour(of(&[("CLICOLOR", "0"), ("CLICOLOR_FORCE", "0")])));
    }

    #[cfg(unix)]
    #[test]
    fn braille_is_for_a_locale_in_utf8() {
        assert!(!has_braille(of(&[])));
        assert!(has_braille(of(&[("LANG", "de_DE.UTF-8")])));
        assert!(has_braille(of(&[("LANG", "C"), ("LC_ALL", "C.utf8")])));
        assert!(!has_braille(of(&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")])));
        assert!(!has_braille(of(&[("LANG", "en_GB.UTF-8"), ("TERM", "linux")])));
    }
}
