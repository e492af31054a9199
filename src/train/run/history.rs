//! The metrics of a run's epochs: `metrics.jsonl` for programs, and the same as `results.csv` for spreadsheets.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;

use super::{Run, STATE};
use crate::train::EpochMetrics;
use crate::weights::write_whole;
use crate::{Error, Result};

pub(super) const METRICS: &str = "metrics.jsonl";
pub(super) const RESULTS: &str = "results.csv";

/// The columns of `results.csv`: the keys of `metrics.jsonl`.
const COLUMNS: &str =
    "epoch,loss,train_accuracy,test_loss,test_accuracy,examples_per_second,train_seconds,test_seconds,rate,skipped";

impl Run {
    /// Appends an epoch's metrics to `metrics.jsonl` and `results.csv`; lines of that epoch and of later ones are removed
    /// first.
    ///
    /// # Errors
    /// [`Error::RunLocked`] if another process trains in the folder; [`Error::Io`] if a file cannot be written.
    /// [`Error::Run`] if the epoch does not follow the last one, or a number is not finite: the file could not be read
    /// again. After [`Run::open`] alone, as [`Run::resume`] too.
    pub fn append(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.hold_with_history()?;
        // A run that ended after it wrote an epoch's metrics, and before it saved its state, repeats that epoch.
        let earlier = self.history.partition_point(|earlier| earlier.epoch < metrics.epoch);
        let refuse = |problem: &str| Err(Error::run(&self.folder, format!("epoch {}: {problem}", metrics.epoch)));
        if metrics.epoch as usize != earlier + 1 {
            return refuse(&format!("its metrics do not follow those of {earlier} epochs"));
        }
        if !metrics.is_finite() {
            return refuse("a number of its metrics is not finite");
        }
        self.history.truncate(earlier);
        self.history.push(*metrics);
        for (name, text) in self.tables()? {
            write_whole(&self.folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// The files of the history, whole: their names and their texts.
    fn tables(&self) -> Result<[(&'static str, String); 2]> {
        Ok([(METRICS, self.lines(&self.history)?), (RESULTS, table(&self.history))])
    }

    /// The text of `metrics.jsonl`.
    fn lines(&self, history: &[EpochMetrics]) -> Result<String> {
        let mut text = String::new();
        for metrics in history {
            text += &serde_json::to_string(metrics).map_err(|e| Error::run(&self.folder, e.to_string()))?;
            text.push('\n');
        }
        Ok(text)
    }

    /// Writes `metrics.jsonl` and `results.csv` anew if they have not the epochs of the state. One more epoch is no
    /// damage: it was told before the run ended and its state was saved, and is repeated now. Neither is a run without
    /// `results.csv`: older versions wrote none.
    pub(super) fn settle_history(&mut self) -> Result<()> {
        let [(_, lines), (_, rows)] = self.tables()?;
        let present = self.read(METRICS)?.unwrap_or_default();
        let rest = present.strip_prefix(lines.as_bytes());
        let next = rest.and_then(|rest| serde_json::from_slice::<EpochMetrics>(rest.strip_suffix(b"\n")?).ok());
        let next = next.filter(|next| next.epoch as usize == self.history.len() + 1);
        if next.is_none() && rest != Some(b"") {
            self.write_anew(METRICS, &lines)?;
        }
        let one_more = |rest: &[u8]| rest.is_empty() || self.is_next_row(rest);
        match self.read(RESULTS)? {
            None if self.history.is_empty() => {}
            None => write_whole(&self.folder.join(RESULTS), rows.as_bytes())?,
            Some(present) if present.strip_prefix(rows.as_bytes()).is_some_and(one_more) => {}
            Some(_) => self.write_anew(RESULTS, &rows)?,
        }
        Ok(())
    }

    /// Whether the text is a row of the epoch after those of the history.
    fn is_next_row(&self, text: &[u8]) -> bool {
        let row = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n'));
        let cells: Vec<&str> = row.into_iter().flat_map(|row| row.split(',')).collect();
        cells.len() == COLUMNS.split(',').count()
            && cells[0] == (self.history.len() + 1).to_string()
            && cells.iter().all(|cell| cell.parse::<f64>().is_ok_and(f64::is_finite))
    }

    fn write_anew(&mut self, name: &str, text: &str) -> Result<()> {
        write_whole(&self.folder.join(name), text.as_bytes())?;
        self.warn(format!("{name} did not have the epochs of {STATE}; it was written anew"));
        Ok(())
    }

    /// The bytes of a file of the folder; `None` if there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.folder.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    /// The metrics in `metrics.jsonl`: those of the epochs so far, in order. After a process that was killed between them and
    /// its state there may be one epoch more than the state has.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Run`] for a line that is not an epoch's metrics, or an epoch
    /// that is missing.
    pub fn metrics(&self) -> Result<Vec<EpochMetrics>> {
        let path = self.folder.join(METRICS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        let parse = |(i, line): (usize, &str)| {
            let problem = |problem: String| Error::run(&self.folder, format!("{METRICS}, line {}: {problem}", i + 1));
            let metrics: EpochMetrics = serde_json::from_str(line).map_err(|e| problem(e.to_string()))?;
            match metrics.epoch as usize == i + 1 {
                true => Ok(metrics),
                false => Err(problem(format!("it is of epoch {}, not of epoch {}", metrics.epoch, i + 1))),
            }
        };
        text.lines().enumerate().map(parse).collect()
    }
}

/// The text of `results.csv`. Numbers need no quotes, and have as many digits as give their bits again.
fn table(history: &[EpochMetrics]) -> String {
    let mut text = format!("{COLUMNS}\n");
    for metrics in history {
        let EpochMetrics { epoch, loss, train_accuracy, test_loss, test_accuracy, .. } = *metrics;
        let EpochMetrics { examples_per_second, train_seconds, test_seconds, rate, skipped, .. } = *metrics;
        let row = format_args!(
            "{epoch},{loss:?},{train_accuracy:?},{test_loss:?},{test_accuracy:?},{examples_per_second:?},\
             {train_seconds:?},{test_seconds:?},{rate:?},{skipped}\n"
        );
        text.write_fmt(row).expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_columns_and_the_numbers_of_the_lines() {
        let epoch = |epoch, loss, skipped| EpochMetrics {
            epoch,
            loss,
            train_accuracy: 1.0 / 3.0,
            test_loss: 1e-300,
            test_accuracy: 1.0,
            examples_per_second: 12_345_678_901_234_567_890.0,
            train_seconds: 0.1 + 0.2,
            test_seconds: 5e-324,
            rate: 0.0,
            skipped,
        };
        let history = [epoch(1, 2.25, 0), epoch(2, f64::MAX, usize::MAX)];
        let table = table(&history);
        let mut rows = table.lines();
        let columns: Vec<&str> = rows.next().unwrap().split(',').collect();
        assert_eq!(rows.clone().count(), 2);
        for (row, metrics) in rows.zip(&history) {
            let line = serde_json::to_string(metrics).unwrap();
            let cells: Vec<&str> = row.split(',').collect();
            assert_eq!(cells.len(), columns.len());
            let object = columns.iter().zip(&cells).map(|(column, cell)| format!("\"{column}\":{cell}"));
            let object = format!("{{{}}}", object.collect::<Vec<_>>().join(","));
            assert_eq!(serde_json::from_str::<EpochMetrics>(&object).unwrap(), *metrics);
            // In the order of the lines.
            let places = columns.iter().map(|column| line.find(&format!("\"{column}\":")).unwrap());
            assert!(places.is_sorted());
            assert_eq!(line.matches(':').count(), columns.len());
        }
    }
}
