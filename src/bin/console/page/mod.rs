//! Self-contained HTML pages: a style sheet of their own, charts as SVG, no script and no request to any network.

mod axis;
mod bars;
pub mod chart;
mod lettering;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use mlpconv::Result;
use mlpconv::weights::write_whole;

pub use axis::{Axis, Scale};
pub use bars::{Bar, Bars};
pub use chart::{Chart, Series};

/// What a browser may load for a page: the style within it, and pictures that are in it as data.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
const STYLE: &str = include_str!("style.css");

/// Sections from which on a page begins with links to them.
const LINKED: usize = 4;

/// The longest text in a column whose cells are not wrapped.
const SHORT: usize = 28;

/// A page: a title, a lead, and sections.
pub struct Page {
    title: String,
    lead: Markup,
    sections: Vec<(String, Markup)>,
}

impl Page {
    /// A page without sections. `lead` follows the title.
    pub fn new(title: impl Into<String>, lead: Markup) -> Self {
        Page { title: title.into(), lead, sections: Vec::new() }
    }

    /// Appends a section. Headings within `body` begin at `h3`.
    pub fn section(&mut self, heading: &str, body: Markup) {
        self.sections.push((heading.to_owned(), body));
    }

    /// The page as HTML.
    pub fn html(&self) -> String {
        let id = |section: usize| format!("section-{}", section + 1);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="generator" content="mlpconv";
                    // Without it a browser asks a server for an icon.
                    link rel="icon" href="data:,";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (self.title) }
                        (self.lead)
                        @if self.sections.len() >= LINKED {
                            nav aria-label="Sections" {
                                ul {
                                    @for (i, (heading, _)) in self.sections.iter().enumerate() {
                                        li { a href=(format_args!("#{}", id(i))) { (heading) } }
                                    }
                                }
                            }
                        }
                    }
                    main {
                        @for (i, (heading, body)) in self.sections.iter().enumerate() {
                            section aria-labelledby=(id(i)) {
                                h2 id=(id(i)) { (heading) }
                                (body)
                            }
                        }
                    }
                }
            }
        };
        page.into_string()
    }

    /// Writes the page to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`write_whole`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, self.html().as_bytes())
    }
}

/// A table in a box of its own, which scrolls where the page is too narrow. The first column holds the rows' headers; a
/// column of numbers is aligned to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> Markup {
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column)).filter(|cell| !cell.is_empty());
    let kind = |column: usize| match column {
        1.. if cells(column).next().is_some() && cells(column).all(|cell| is_number(cell)) => Some("number"),
        _ if cells(column).all(|cell| cell.chars().count() <= SHORT) => Some("short"),
        _ => None,
    };
    let kinds: Vec<Option<&str>> = (0..head.len()).map(kind).collect();
    let class = |column: usize| kinds.get(column).copied().flatten();
    html! {
        // A keyboard scrolls what it can focus.
        div.scroll tabindex="0" role="group" aria-label=(format_args!("Table: {}", head.join(", "))) {
            table {
                thead {
                    tr { @for (i, name) in head.iter().enumerate() { th scope="col" class=[class(i)] { (name) } } }
                }
                tbody {
                    @for row in rows {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @if i == 0 {
                                    th scope="row" class=[class(i)] { (cell) }
                                } @else {
                                    td class=[class(i)] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether a cell begins with a number, a unit may follow; or says that there is none.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['+', '-', '−', '±', '.', '∞']);
    digits.starts_with(|c: char| c.is_ascii_digit()) || ["", "–", "NaN"].contains(&digits)
}

/// A number with about four digits, to read: `0.9020`, `12.35`, `1,992,166`, `1.200e-5`.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.into();
    }
    let size = value.abs();
    match size {
        _ if size >= 1e15 => format!("{value:.3e}"),
        _ if size >= 1e4 || size.fract() == 0.0 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", super::grouped(size.round() as usize))
        }
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 1.0 => format!("{value:.3}"),
        _ if size >= 1e-3 => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}
