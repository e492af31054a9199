//! The picture of a run in progress: the bar, what there is to say beside it, and the curve.

use std::time::{Duration, Instant};

use mlpconv::ops::cross_entropy::Reading;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::{LineGauge, Paragraph, Widget as _, Wrap};

use super::curve::{Curve, LEAST_HEIGHT};
use super::look::{self, Look};
use super::pace::Left;

/// The largest extents of the picture. Wider bars and curves tell no more.
const MOST_WIDTH: u16 = 96;
const MOST_CURVE: u16 = 12;

/// From this width on the time left of the epoch has room beside the bar.
const WIDE: u16 = 56;

/// A terminal's extents in characters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// What an epoch is at.
#[derive(Clone, Copy)]
pub enum Stage {
    Training { step: usize, steps: usize },
    Testing { done: usize, of: usize },
}

/// A run in progress.
pub struct Picture {
    /// The epoch, from 1, and the number of epochs.
    pub epoch: u32,
    pub epochs: u32,
    pub stage: Stage,
    /// The last reading of the epoch, and the images a second then.
    pub reading: Option<(Reading, f64)>,
    /// The time left, and when that was.
    pub left: Option<(Left, Instant)>,
    /// As [`TrainConfig::measured`](mlpconv::train::TrainConfig::measured).
    pub measured: &'static str,
    pub curve: Curve,
}

impl Picture {
    /// The lines for a terminal: at most half of its rows, so that they are all there still when it is made so narrow
    /// that each is wrapped once; or ten, if the terminal is low. They leave the first column to the cursor, and the
    /// last one free, where a letter may begin a new row.
    pub fn lines(&self, size: Size, look: Look, now: Instant) -> Vec<String> {
        let Size { rows, columns } = size;
        let most = (rows / 2).max(rows.saturating_sub(2).min(10));
        let area = Rect::new(0, 0, columns.saturating_sub(1).min(MOST_WIDTH), most.max(1));
        let mut buffer = Buffer::empty(area);
        let inner = Rect { x: 1, width: area.width.saturating_sub(1), ..area };
        let left = self.left.map(|(left, at)| left.after(now - at));
        let is_wide = columns >= WIDE;
        self.draw_bar(Rect { height: 1, ..inner }, &mut buffer, look, left.filter(|_| is_wide));
        let words = Paragraph::new(self.words(left, is_wide)).wrap(Wrap { trim: true });
        words.render(Rect { y: 1, height: area.height - 1, ..inner }, &mut buffer);
        let used =
            |buffer: &Buffer| look::lines(buffer, look).iter().rposition(|line| !line.is_empty()).map_or(0, |y| y + 1);
        let text = used(&buffer) as u16;
        // The curve has a legend below it.
        let height = area.height.saturating_sub(text).min(MOST_CURVE + 1);
        if self.curve.is_drawable() && height > LEAST_HEIGHT && inner.width >= self.curve.least_width() {
            self.curve.draw(Rect { y: text, height, ..inner }, &mut buffer, look);
        }
        let mut lines = look::lines(&buffer, look);
        lines.truncate(used(&buffer));
        lines
    }

    /// The lines of the curve alone, as a run leaves them behind; none where it has no room.
    pub fn curve_lines(&self, size: Size, look: Look) -> Vec<String> {
        let width = size.columns.saturating_sub(1).min(MOST_WIDTH);
        let height = (size.rows / 2).min(MOST_CURVE + 1);
        if !self.curve.is_drawable() || height <= LEAST_HEIGHT || width <= self.curve.least_width() {
            return Vec::new();
        }
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        self.curve.draw(Rect::new(1, 0, width - 1, height), &mut buffer, look);
        look::lines(&buffer, look)
    }

    /// The epoch and how far it is, with the time left of it, if any is given.
    fn draw_bar(&self, area: Rect, buffer: &mut Buffer, look: Look, left: Option<Left>) {
        let left = left.map_or(String::new(), |left| format!(" {} left", clock(left.epoch)));
        let bar = Rect { width: area.width.saturating_sub(left.len() as u16), ..area };
        buffer.set_string(bar.right(), bar.y, &left, Style::default());
        let (epoch, epochs) = (self.epoch, self.epochs);
        let measured = format!("{} image", self.measured);
        let (done, of, what) = match self.stage {
            Stage::Training { step, steps } => (step, steps, "step"),
            Stage::Testing { done, of } => (done, of, &*measured),
        };
        let (filled, unfilled) = if look.braille { ("━", "─") } else { ("=", "-") };
        LineGauge::default()
            .label(format!("epoch {epoch}/{epochs}, {what} {done}/{of}"))
            .ratio((done as f64 / of.max(1) as f64).min(1.0))
            .filled_symbol(filled)
            .unfilled_symbol(unfilled)
            .filled_style(Style::default().fg(Color::Cyan))
            .unfilled_style(Style::default().fg(Color::DarkGray))
            .render(bar, buffer);
    }

    /// Loss, accuracy, speed, and the time left, of the epoch too unless it is told beside the bar.
    fn words(&self, left: Option<Left>, is_told: bool) -> String {
        let mut words = Vec::new();
        if let Some((reading, rate)) = &self.reading {
            words.push(super::progress(reading, *rate));
        }
        if let Some(left) = left {
            words.extend((!is_told).then(|| format!("epoch {} left", clock(left.epoch))));
            words.extend((self.epoch < self.epochs).then(|| format!("run {} left", clock(left.run))));
        }
        words.join(", ")
    }
}

/// A time as a clock shows it: `4:05`, `1:04:05`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, braille: false };

    fn picture() -> Picture {
        let mut curve = Curve::new(10, 1000, "test", &[]);
        for step in 1..=100 {
            let reading = Reading { samples: 10 * step, loss: 2.3, accuracy: 0.1, ..Reading::default() };
            curve.reading(step as f64 / 100.0, &reading);
        }
        let reading = Reading { loss: 0.4123, accuracy: 0.8512, ..Reading::default() };
        let left = Left { epoch: Duration::from_secs(42), run: Duration::from_secs(3725) };
        let stage = Stage::Training { step: 312, steps: 469 };
        Picture {
            epoch: 3,
            epochs: 10,
            stage,
            reading: Some((reading, 3344.4)),
            left: Some((left, Instant::now())),
            measured: "test",
            curve,
        }
    }

    fn lines(columns: u16, rows: u16) -> Vec<String> {
        let picture = picture();
        let now = picture.left.unwrap().1;
        picture.lines(Size { rows, columns }, PLAIN, now)
    }

    #[test]
    fn all_is_told_and_nothing_is_cut_off() {
        for (columns, rows) in [(110, 30), (80, 24), (60, 20), (40, 12), (30, 10)] {
            let lines = lines(columns, rows);
            let text = lines.join("\n");
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for what in [
                "epoch 3/10, step 312/469",
                "0:42 left",
                "loss 0.412, train acc 0.851, 3344 images/s",
                "run 1:02:05 left",
            ] {
                assert!(words.contains(what), "{what:?} at {columns}x{rows}:\n{text}");
            }
            assert!(lines.len() < usize::from(rows), "{text}");
            // A column for the cursor, and one where nothing is written.
            assert!(lines.iter().all(|line| line.starts_with(' ') && line.len() < usize::from(columns)), "{text}");
        }
    }

    #[test]
    fn the_curve_goes_where_it_has_no_room_and_the_bar_stays() {
        let has_curve = |columns, rows| lines(columns, rows).iter().any(|line| line.contains("test acc"));
        for (columns, rows) in [(110, 30), (60, 20), (40, 12)] {
            assert!(has_curve(columns, rows), "{columns}x{rows}");
        }
        for (columns, rows) in [(36, 30), (110, 8), (1, 1)] {
            assert!(!has_curve(columns, rows), "{columns}x{rows}");
        }
        assert!(lines(36, 30)[0].starts_with(" epoch 3/10, step 312/469 ===="));
        // Of any size that a terminal may tell.
        for size in 1..40 {
            lines(size, 10);
            lines(10, size);
        }
    }

    #[test]
    fn time_counts_down_between_two_steps() {
        let picture = picture();
        let later = picture.left.unwrap().1 + Duration::from_secs(2);
        let lines = picture.lines(Size { rows: 24, columns: 80 }, PLAIN, later);
        assert!(lines[0].ends_with(" 0:40 left"), "{lines:?}");
    }
}
