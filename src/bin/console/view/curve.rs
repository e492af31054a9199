//! The curve of a run: training loss, training accuracy and test accuracy (or the holdout's) over its epochs, as the book draws
//! them.

use mlpconv::ops::cross_entropy::Reading;
use mlpconv::train::EpochMetrics;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use super::look::Look;

/// The most points of a line. Beyond it every second is left out.
const POINTS: usize = 2000;

/// The images of a point in training: so many, or a twentieth of an epoch if that is less. The standard deviation of
/// accuracy over 1000 images is 0.016 at most.
const IMAGES: usize = 1000;

/// The least height at which the curve is legible: three rows of graph, the axis and its labels.
pub const LEAST_HEIGHT: u16 = 5;

/// A line: epochs done, and the value then.
type Points = Vec<(f64, f64)>;

/// The points of the three lines. Those of training are means over the images since the point before, so that the lines
/// have no jumps where a running mean begins anew, and can be compared with test accuracy. Of an epoch that another
/// process trained, only its mean is known, which is put in its middle.
pub struct Curve {
    epochs: u32,
    /// The least images of a point in training.
    images: usize,
    loss: Points,
    train_accuracy: Points,
    test_accuracy: Points,
    /// As [`TrainConfig::measured`](mlpconv::train::TrainConfig::measured).
    measured: &'static str,
    /// The reading of the last point, if it is of the present epoch.
    last: Reading,
}

impl Curve {
    /// The curve of a run of so many epochs of so many images, which measures on `measured` images. Some epochs may be done.
    pub fn new(epochs: u32, images: usize, measured: &'static str, done: &[EpochMetrics]) -> Self {
        let images = IMAGES.min(images / 20);
        let (loss, train_accuracy, test_accuracy, last) = Default::default();
        let mut curve = Curve { epochs, images, loss, train_accuracy, test_accuracy, measured, last };
        for metrics in done {
            let at = f64::from(metrics.epoch) - 0.5;
            push(&mut curve.loss, (at, metrics.loss));
            push(&mut curve.train_accuracy, (at, metrics.train_accuracy));
            curve.epoch(metrics);
        }
        curve
    }

    /// Adds a reading of the present epoch, at so many epochs.
    pub fn reading(&mut self, at: f64, reading: &Reading) {
        let images = reading.samples.saturating_sub(self.last.samples);
        if images < self.images.max(1) {
            return;
        }
        let sum = |mean: f64, reading: &Reading| mean * reading.samples as f64;
        let (loss, accuracy) = (sum(reading.loss, reading), sum(reading.accuracy, reading));
        let (last_loss, last_accuracy) = (sum(self.last.loss, &self.last), sum(self.last.accuracy, &self.last));
        push(&mut self.loss, (at, (loss - last_loss) / images as f64));
        push(&mut self.train_accuracy, (at, (accuracy - last_accuracy) / images as f64));
        self.last = *reading;
    }

    /// Adds the test accuracy at an epoch's end.
    pub fn epoch(&mut self, metrics: &EpochMetrics) {
        push(&mut self.test_accuracy, (f64::from(metrics.epoch), metrics.test_accuracy));
        self.last = Reading::default();
    }

    /// The least width at which the curve is legible: that of its legend.
    pub fn least_width(&self) -> u16 {
        33 + self.measured.len() as u16
    }

    /// Whether there is a line to be seen.
    pub fn is_drawable(&self) -> bool {
        self.loss.len() > 1
    }

    /// Draws the curve, its axes and, in the last row, its legend. Loss has its scale on the left, accuracy on the
    /// right.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, look: Look) {
        let [Some(legend), Some(graph)] = [
            area.height.checked_sub(1).map(|y| Rect { y: area.y + y, height: 1, ..area }),
            area.height.checked_sub(1).map(|height| Rect { height, width: area.width.saturating_sub(4), ..area }),
        ] else {
            return;
        };
        let most = self.loss.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
        let top = round_up(most);
        let scaled = |points: &Points| -> Points { points.iter().map(|(at, value)| (*at, value * top)).collect() };
        let (train, test) = (scaled(&self.train_accuracy), scaled(&self.test_accuracy));
        let lines = [(LOSS, &self.loss), (TRAIN, &train), (TEST, &test)];
        let datasets = lines.map(|(line, points)| {
            let marker = line.marker(look);
            // Letters that are joined would hide each other.
            let kind = if marker == Marker::Braille { GraphType::Line } else { GraphType::Scatter };
            Dataset::default().data(points).marker(marker).style(line.colour).graph_type(kind)
        });
        let epochs = self.epochs.to_string();
        let of_epochs = Axis::default().bounds([0.0, f64::from(self.epochs)]).labels(["0", "epochs", &epochs]);
        let of_loss = Axis::default().bounds([0.0, top]).labels(["0".into(), "loss".into(), top.to_string()]);
        Chart::new(datasets.to_vec()).x_axis(of_epochs).y_axis(of_loss).legend_position(None).render(graph, buffer);
        // The rows of the chart's axis of epochs and of its labels are the last two.
        let rows = graph.height.saturating_sub(2);
        for (row, label) in [(0, "1"), (rows.saturating_sub(1) / 2, "acc"), (rows.saturating_sub(1), "0")] {
            buffer.set_string(graph.right() + 1, graph.y + row, label, Style::default());
        }
        let mut names = vec![Span::raw("   ")];
        for (line, name) in [(LOSS, "loss"), (TRAIN, "train acc"), (TEST, &*format!("{} acc", self.measured))] {
            names.extend([Span::styled(line.sample(look), line.colour), Span::raw(format!(" {name}  "))]);
        }
        buffer.set_line(legend.x, legend.y, &Line::from(names), legend.width);
    }
}

fn push(points: &mut Points, point: (f64, f64)) {
    if points.len() == POINTS {
        let mut odd = false;
        points.retain(|_| {
            odd = !odd;
            odd
        });
    }
    points.push(point);
}

/// The look of a line of the curve.
struct LineLook {
    colour: Color,
    /// What draws it where there is no braille.
    letter: char,
    /// What draws it where no colour tells it from the other lines.
    colourless: Marker,
}

const LOSS: LineLook = LineLook { colour: Color::Cyan, letter: '*', colourless: Marker::Braille };
const TRAIN: LineLook = LineLook { colour: Color::Magenta, letter: '+', colourless: Marker::Custom('+') };
const TEST: LineLook = LineLook { colour: Color::Green, letter: 'o', colourless: Marker::Custom('o') };

impl LineLook {
    fn marker(&self, look: Look) -> Marker {
        match look {
            Look { braille: true, colour: true } => Marker::Braille,
            Look { braille: true, colour: false } => self.colourless,
            Look { braille: false, .. } => Marker::Custom(self.letter),
        }
    }

    /// A piece of the line, for the legend.
    fn sample(&self, look: Look) -> String {
        match self.marker(look) {
            Marker::Braille => "⠒⠒".into(),
            _ => self.letter.into(),
        }
    }
}

/// The least of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten that is no less than the value; 1 for 0.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|rounded| *rounded >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::*;
    use crate::console::epoch_metrics as epoch;

    const LOOKS: [Look; 3] = [
        Look { colour: true, braille: true },
        Look { colour: false, braille: true },
        Look { colour: false, braille: false },
    ];

    fn read(samples: usize, loss: f64, accuracy: f64) -> Reading {
        Reading { samples, loss, accuracy, ..Reading::default() }
    }

    #[test]
    fn points_of_training_are_means_since_the_point_before() {
        let mut curve = Curve::new(2, 100_000, "test", &[]);
        curve.reading(0.01, &read(1000, 2.0, 0.2));
        curve.reading(0.015, &read(1500, 1.9, 0.2));
        curve.reading(0.02, &read(2000, 1.5, 0.4));
        assert_eq!(curve.loss, [(0.01, 2.0), (0.02, 1.0)]);
        assert_eq!(curve.train_accuracy[0], (0.01, 0.2));
        assert!((curve.train_accuracy[1].1 - 0.6).abs() < 1e-12);
        curve.epoch(&epoch(1, 0.7));
        curve.reading(1.01, &read(1000, 0.5, 0.8));
        assert_eq!(curve.loss[2], (1.01, 0.5));
        assert_eq!(curve.test_accuracy, [(1.0, 0.7)]);
    }

    #[test]
    fn epochs_of_another_process_are_points() {
        let curve = Curve::new(4, 1000, "test", &[epoch(1, 0.5), epoch(2, 0.75)]);
        assert_eq!(curve.train_accuracy, [(0.5, 0.5), (1.5, 0.75)]);
        assert_eq!(curve.test_accuracy, [(1.0, 0.5), (2.0, 0.75)]);
    }

    #[test]
    fn a_long_run_has_a_bounded_number_of_points() {
        let mut points = Points::new();
        (0..10 * POINTS).for_each(|at| push(&mut points, (at as f64, 0.0)));
        assert!((POINTS / 2..=POINTS).contains(&points.len()));
        assert!(points.is_sorted_by(|a, b| a.0 < b.0) && points[0].0 == 0.0);
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        let round = [0.0, 0.07, 1.0, 2.302, 7.9, 8.5, 123.0].map(round_up);
        for (rounded, expected) in round.into_iter().zip([1.0, 0.08, 1.0, 2.5, 8.0, 10.0, 150.0]) {
            assert!((rounded - expected).abs() < 1e-12, "{round:?}");
        }
    }

    /// At every size the axes are labelled and nothing panics; without braille all of it is ASCII.
    #[test]
    fn it_is_drawn_at_every_size() {
        let curve = Curve::new(3, 1000, "holdout", &[epoch(1, 0.5), epoch(2, 0.75)]);
        for (width, height) in (curve.least_width()..120)
            .step_by(7)
            .flat_map(|width| (LEAST_HEIGHT + 1..16).map(move |height| (width, height)))
        {
            for look in LOOKS {
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                curve.draw(buffer.area, &mut buffer, look);
                let text = look::lines(&buffer, look).join("\n");
                for word in ["loss", "acc", "epochs", "train acc", "holdout acc", "1.5", "3"] {
                    assert!(text.contains(word), "{word:?} at {width}x{height}:\n{text}");
                }
                assert_eq!(text.is_ascii(), !look.braille, "{text}");
                assert_eq!(text.contains('\x1b'), look.colour, "{text}");
                assert!(!text.contains('?'), "{text}");
            }
        }
    }
}
