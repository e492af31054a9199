//! What an exercise has found: a table, pictures, and two sentences; on standard output, as a report and as a CSV file.

use std::iter;
use std::path::Path;
use std::time::Duration;

use maud::{Markup, html};
use mlpconv::Result;
use mlpconv::weights::write_whole;

use super::super::page::{self, Page};
use super::super::{note, say};
use super::progress::time;

/// A table: the heads of its columns, and its rows.
pub struct Table {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn push<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.to_vec());
    }

    /// Every column as wide as its widest cell: the first one aligned to the left, the others, which are figures, to the right.
    pub fn text(&self) -> String {
        let head: Vec<String> = self.head.iter().map(ToString::to_string).collect();
        let rows = || iter::once(&head).chain(&self.rows);
        let widths: Vec<usize> = (0..head.len())
            .map(|column| rows().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows().map(line).collect::<Vec<_>>().join("\n")
    }

    /// As RFC 4180 has it, with a head.
    fn csv(&self) -> String {
        let cell = |cell: &str| match cell.contains([',', '"', '\n']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.to_owned(),
        };
        let head = self.head.iter().map(|head| cell(head)).collect::<Vec<_>>().join(",");
        let rows = self.rows.iter().map(|row| row.iter().map(|value| cell(value)).collect::<Vec<_>>().join(","));
        iter::once(head).chain(rows).map(|line| line + "\n").collect()
    }
}

/// What an exercise has found.
pub struct Findings {
    /// What the figures show. They are computed from the figures.
    pub sentences: [String; 2],
    pub pictures: Vec<Markup>,
    /// For readers.
    pub table: Table,
    /// Every figure, for programs: `results.csv`.
    pub results: Table,
    /// What the figures depend on: names and values, for the report.
    pub settings: Vec<(&'static str, String)>,
    /// Further files of the folder: their names and contents.
    pub files: Vec<(&'static str, String)>,
}

impl Findings {
    pub fn setting(&mut self, name: &'static str, value: impl ToString) {
        self.settings.push((name, value.to_string()));
    }

    /// Writes report and files to `folder`, and prints table and sentences. `missing` has what an interruption left out.
    ///
    /// # Errors
    /// [`Error::Io`](mlpconv::Error::Io) for a file that cannot be written. Table and sentences are printed all the same.
    pub(super) fn conclude(
        mut self,
        name: &str,
        question: &str,
        folder: &Path,
        missing: &[String],
        took: Duration,
    ) -> Result<()> {
        self.setting("time", time(took.as_secs_f64()));
        self.setting("program", format!("mlpconv {}", env!("CARGO_PKG_VERSION")));
        // What is told is saved: output may block, or fail.
        let report = folder.join("report.html");
        let saved = self.page(name, question, missing).write(&report).and_then(|()| self.save(folder));
        say(format_args!("\n{}\n\n{}", self.table.text(), self.sentences.join("\n")));
        if !missing.is_empty() {
            note(format_args!("interrupted; missing: {}", Self::listed(missing)));
        }
        saved?;
        say(format_args!("report   {}", report.display()));
        Ok(())
    }

    /// Writes the files beside the report.
    fn save(&self, folder: &Path) -> Result<()> {
        write_whole(&folder.join("results.csv"), self.results.csv().as_bytes())?;
        self.files.iter().try_for_each(|(name, contents)| write_whole(&folder.join(name), contents.as_bytes()))
    }

    /// What is missing, by name up to a few.
    fn listed(missing: &[String]) -> String {
        const NAMED: usize = 3;
        let mut text = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        if missing.len() > NAMED {
            text += &format!("; and {} more trainings", missing.len() - NAMED);
        }
        text
    }

    fn page(&self, name: &str, question: &str, missing: &[String]) -> Page {
        let mut page = Page::new(format!("Exercise {name}"), html! { p { (question) } });
        page.section(
            "What the figures show",
            html! {
                @for sentence in &self.sentences { p { (sentence) } }
                @if !missing.is_empty() {
                    p { strong { "Interrupted. " } "Missing: " (Self::listed(missing)) "." }
                }
            },
        );
        page.section("Pictures", html! { @for picture in &self.pictures { (picture) } });
        page.section("Table", page::table(&self.table.head, &self.table.rows));
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| vec![name.to_string(), value.clone()]).collect();
        page.section("Settings", page::table(&["setting", "value"], &settings));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["network", "accuracy"]);
        table.push(["two, as in NiN".into(), "0.5".into()]);
        table.push(["one".into(), "0.25".into()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(table().text(), "network         accuracy\ntwo, as in NiN       0.5\none                 0.25");
    }

    #[test]
    fn a_cell_with_a_comma_is_quoted() {
        assert_eq!(table().csv(), "network,accuracy\n\"two, as in NiN\",0.5\none,0.25\n");
    }
}
