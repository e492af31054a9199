//! The picture of a run in progress: the bar, what there is to say beside it, and the curve.

use std::time::{Duration, Instant};

use mlpconv::ops::cross_entropy::Reading;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::{LineGauge, Paragraph, Widget as _, Wrap};

use super::curve::{Curve, LEAST_HEIGHT, LEAST_WIDTH};
use super::look::{self, Look};
use super::pace::Left;

/// The largest extents of the picture. Wider bars and curves tell no more.
const MOST_WIDTH: u16 = 96;
const MOST_CURVE: u16 = 12;

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
    pub curve: Curve,
}

impl Picture {
    /// The lines for a terminal: at most half of its rows, so that they are all there still when it is made so narrow that
    /// each is wrapped once; or at most ten, if the terminal is that low. They leave the first column to the cursor, and the
    /// last one free, where a letter may begin a new row.
    pub fn lines(&self, size: Size, look: Look, now: Instant) -> Vec<String> {
        let Size { rows, columns } = size;
        let most = (rows / 2).max(rows.saturating_sub(3).min(10));
        let area = Rect::new(0, 0, columns.saturating_sub(1).min(MOST_WIDTH), most.max(1));
        let mut buffer = Buffer::empty(area);
        let inner = Rect { x: 1, width: area.width.saturating_sub(1), ..area };
        self.draw_bar(Rect { height: 1, ..inner }, &mut buffer, look);
        let words = Paragraph::new(self.words(now)).wrap(Wrap { trim: true });
        words.render(Rect { y: 1, height: area.height - 1, ..inner }, &mut buffer);
        let used = |buffer: &Buffer| look::lines(buffer, look).iter().rposition(|line| !line.is_empty()).map_or(0, |y| y + 1);
        let text = used(&buffer) as u16;
        // The curve has a legend below it.
        let height = area.height.saturating_sub(text).min(MOST_CURVE + 1);
        if self.curve.is_drawable() && height > LEAST_HEIGHT && inner.width >= LEAST_WIDTH {
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
        if !self.curve.is_drawable() || height <= LEAST_HEIGHT || width <= LEAST_WIDTH {
            return Vec::new();
        }
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        self.curve.draw(Rect::new(1, 0, width - 1, height), &mut buffer, look);
        look::lines(&buffer, look)
    }

    fn draw_bar(&self, area: Rect, buffer: &mut Buffer, look: Look) {
        let (epoch, epochs) = (self.epoch, self.epochs);
        let (done, of, what) = match self.stage {
            Stage::Training { step, steps } => (step, steps, "step"),
            Stage::Testing { done, of } => (done, of, "test image"),
        };
        let (filled, unfilled) = if look.braille { ("━", "─") } else { ("=", "-") };
        LineGauge::default()
            .label(format!("epoch {epoch}/{epochs}, {what} {done}/{of}"))
            .ratio((done as f64 / of.max(1) as f64).min(1.0))
            .filled_symbol(filled)
            .unfilled_symbol(unfilled)
            .filled_style(Style::default().fg(Color::Cyan))
            .unfilled_style(Style::default().fg(Color::DarkGray))
            .render(area, buffer);
    }

    /// Loss, accuracy, speed and the time left.
    fn words(&self, now: Instant) -> String {
        let mut words = Vec::new();
        if let Some((reading, rate)) = &self.reading {
            words.push(super::progress(reading, *rate));
        }
        if let Some((left, at)) = self.left {
            let left = left.after(now - at);
            words.push(format!("{} left of the epoch", clock(left.epoch)));
            if self.epoch < self.epochs {
                words.push(format!("{} of the run", clock(left.run)));
            }
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
