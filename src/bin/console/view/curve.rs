//! The curve of a run: training loss, training accuracy and test accuracy over its epochs, as the book draws them.

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

/// The least extents at which the curve is legible: three rows of graph, the axis and its labels.
pub const LEAST_WIDTH: u16 = 36;
pub const LEAST_HEIGHT: u16 = 5;

/// A line: epochs done, and the value then.
type Points = Vec<(f64, f64)>;

/// The points of the three lines. Loss and accuracy in training are running means of an epoch, in its course and at its
/// end.
pub struct Curve {
    epochs: u32,
    loss: Points,
    train_accuracy: Points,
    test_accuracy: Points,
}

impl Curve {
    /// The curve of a run of so many epochs, some of which may be done.
    pub fn new(epochs: u32, done: &[EpochMetrics]) -> Self {
        let mut curve = Curve { epochs, loss: vec![], train_accuracy: vec![], test_accuracy: vec![] };
        done.iter().for_each(|metrics| curve.epoch(metrics));
        curve
    }

    /// Adds a reading in the course of an epoch, at so many epochs.
    pub fn reading(&mut self, at: f64, reading: &Reading) {
        push(&mut self.loss, (at, reading.loss));
        push(&mut self.train_accuracy, (at, reading.accuracy));
    }

    /// Adds an epoch's end.
    pub fn epoch(&mut self, metrics: &EpochMetrics) {
        let at = f64::from(metrics.epoch);
        push(&mut self.loss, (at, metrics.loss));
        push(&mut self.train_accuracy, (at, metrics.train_accuracy));
        push(&mut self.test_accuracy, (at, metrics.test_accuracy));
    }

    /// Whether there is a line to be seen.
    pub fn is_drawable(&self) -> bool {
        self.loss.len() > 1
    }

    /// Draws the curve, its axes and, in the last row, its legend. Loss has its scale on the left, accuracy on the right.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer, look: Look) {
        const TOP: &str = "1 ";
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
            let line = Dataset::default().data(points).marker(line.marker(look)).style(line.colour);
            line.graph_type(GraphType::Line)
        });
        let epochs = self.epochs.to_string();
        let of_epochs = Axis::default().bounds([0.0, f64::from(self.epochs)]).labels(["0", "epochs", &epochs]);
        let of_loss = Axis::default().bounds([0.0, top]).labels(["0".into(), "loss".into(), top.to_string()]);
        Chart::new(datasets.to_vec()).x_axis(of_epochs).y_axis(of_loss).legend_position(None).render(graph, buffer);
        // The rows of the chart's axis of epochs and of its labels are the last two.
        let rows = graph.height.saturating_sub(2);
        for (row, label) in [(0, TOP), (rows.saturating_sub(1) / 2, "acc"), (rows.saturating_sub(1), "0")] {
            buffer.set_string(graph.right() + 1, graph.y + row, label, Style::default());
        }
        let mut names = vec![Span::raw("   ")];
        for line in [LOSS, TRAIN, TEST] {
            names.extend([Span::styled(line.sample(look), line.colour), Span::raw(format!(" {}  ", line.name))]);
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
    name: &'static str,
    colour: Color,
    /// What draws it where there is no braille.
    letter: char,
    /// What draws it where no colour tells it from the other lines.
    colourless: Marker,
}

const LOSS: LineLook = LineLook { name: "loss", colour: Color::Cyan, letter: '*', colourless: Marker::Braille };
const TRAIN: LineLook =
    LineLook { name: "train acc", colour: Color::Magenta, letter: '+', colourless: Marker::Custom('+') };
const TEST: LineLook = LineLook { name: "test acc", colour: Color::Green, letter: 'o', colourless: Marker::Custom('o') };

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
