//! What standard output can show: its width, its letters and its colours.

use std::env;

use ::console::Term;

use super::view::look::Look;

/// The colours of a terminal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colours {
    /// None, or too few for a picture; and wherever standard output is no terminal, unless `CLICOLOR_FORCE` asks for them.
    None,
    /// The 256 of xterm.
    Palette,
    /// 24 bits.
    True,
}

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub columns: usize,
    /// Whether there are letters beyond ASCII.
    pub unicode: bool,
    pub colours: Colours,
}

/// Columns where there is no terminal.
const COLUMNS: usize = 80;

impl Screen {
    pub fn of_stdout() -> Self {
        let term = Term::stdout();
        let columns = term.size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns).max(1));
        let variable = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
        let Look { colour, braille: unicode } = Look::of_environment();
        let colours = if colour { colours(term.is_term(), variable) } else { Colours::None };
        Screen { columns, unicode, colours }
    }

    /// A bar of a share (from 0 to 1) of `columns` columns, without blanks at its end.
    pub fn bar(&self, share: f64, columns: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let length = share.clamp(0.0, 1.0) * columns as f64;
        if !self.unicode {
            return "#".repeat(length.round() as usize);
        }
        let eighths = (length * 8.0).round() as usize;
        format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
    }
}

/// A name of the user's without control characters, which a terminal would obey.
pub fn printable(name: &str) -> String {
    name.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// The colours, unless the user wants none.
fn colours(terminal: bool, variable: impl Fn(&'static str) -> Option<String>) -> Colours {
    let is = |name, value: &str| variable(name).is_some_and(|present| present == value);
    let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    if !forced && (!terminal || is("TERM", "dumb")) {
        return Colours::None;
    }
    if is("COLORTERM", "truecolor") || is("COLORTERM", "24bit") {
        return Colours::True;
    }
    let many = variable("TERM").is_some_and(|terminal| terminal.contains("256color") || terminal.contains("direct"));
    if many || forced { Colours::Palette } else { Colours::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &'static [(&str, &str)]) -> impl Fn(&'static str) -> Option<String> {
        |name| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn colours_are_the_terminals_or_forced() {
        assert_eq!(colours(true, of(&[("TERM", "xterm-256color")])), Colours::Palette);
        assert_eq!(colours(true, of(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")])), Colours::True);
        assert_eq!(colours(true, of(&[("TERM", "linux")])), Colours::None);
        assert_eq!(colours(true, of(&[("TERM", "dumb"), ("COLORTERM", "truecolor")])), Colours::None);
        assert_eq!(colours(false, of(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")])), Colours::None);
        assert_eq!(colours(false, of(&[("CLICOLOR_FORCE", "1")])), Colours::Palette);
    }

    #[test]
    fn bars_have_the_length_of_their_share() {
        let mut screen = Screen { columns: 80, unicode: true, colours: Colours::None };
        assert_eq!(screen.bar(1.0, 3), "███");
        assert_eq!(screen.bar(0.5, 3), "█▌");
        assert_eq!(screen.bar(0.0, 3), "");
        screen.unicode = false;
        assert_eq!(screen.bar(0.5, 4), "##");
        assert_eq!(screen.bar(f64::NAN, 4), "");
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nç"), "a\u{fffd}[2Jb\u{fffd}ç");
    }
}
