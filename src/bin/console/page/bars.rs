//! Horizontal bars as SVG, each with its name and its value in words.

use maud::{Markup, html};

use super::axis::{Scale, Span};
use super::lettering::{LINE, fitting, width};
use super::{number, table};

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// The least and the largest of the values that `value` stands for.
    pub range: Option<[f64; 2]>,
    /// A word about the bar, or nothing.
    pub note: String,
    /// The number of its colour among those of series.
    pub series: usize,
}

/// A chart of bars.
#[derive(Clone, Debug)]
pub struct Bars {
    pub title: String,
    /// What the values are, with their unit.
    pub label: String,
    pub scale: Scale,
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 640.0;
/// Room at both ends for half of a tick's label.
const MARGIN: f64 = 24.0;
const THICKNESS: f64 = 14.0;

impl Bar {
    /// The value with its range.
    fn told(&self) -> String {
        match self.range {
            Some([low, high]) => format!("{} ({} to {})", number(self.value), number(low), number(high)),
            None => number(self.value),
        }
    }
}

impl Bars {
    /// The bars as an SVG element, which the style sheet of a [`Page`](super::Page) colours.
    pub fn svg(&self) -> Markup {
        let values = self.bars.iter().flat_map(|bar| [bar.value].into_iter().chain(bar.range.into_iter().flatten()));
        // The length of a bar is its value, so that a linear axis begins at zero.
        let zero = (self.scale == Scale::Linear).then_some(0.0);
        let span = Span::of(self.scale, values.chain(zero), true);
        let x = |value: f64| span.place(value).map(|place| MARGIN + place * (WIDTH - 2.0 * MARGIN));
        let from = x(0.0).unwrap_or(MARGIN);
        let mut tops = Vec::new();
        let mut bottom = 0.0;
        for bar in &self.bars {
            tops.push(bottom);
            let note = if bar.note.is_empty() { 0.0 } else { LINE };
            bottom += LINE + THICKNESS + note + 10.0;
        }
        let height = bottom + 2.0 * LINE + 10.0;
        html! {
            svg.chart role="img" viewBox=(format_args!("0 0 {WIDTH} {height}")) {
                title { (self.title) }
                desc { (self.description()) }
                g.ticks {
                    @for (tick, label) in span.ticks() {
                        @if let Some(x) = x(tick) {
                            line x1=(format_args!("{x:.1}")) x2=(format_args!("{x:.1}")) y1="0" y2=(bottom) {}
                            text text-anchor="middle" x=(format_args!("{x:.1}")) y=(bottom + LINE) { (label) }
                        }
                    }
                }
                path.axis d=(format_args!("M{from:.1} 0V{bottom:.1}")) {}
                @for (bar, top) in self.bars.iter().zip(&tops) {
                    @let told = bar.told();
                    @let (text, middle) = (top + LINE - 6.0, top + LINE + THICKNESS / 2.0);
                    text.over x=(MARGIN + 6.0) y=(text) { (fitting(&bar.name, WIDTH - 2.0 * MARGIN - 6.0 - width(&told) - 16.0)) }
                    text.over text-anchor="end" x=(WIDTH - MARGIN) y=(text) { (told) }
                    @if let Some(to) = x(bar.value) {
                        rect x=(format_args!("{:.1}", from.min(to)))
                            width=(format_args!("{:.1}", (to - from).abs().max(1.0)))
                            y=(top + LINE) height=(THICKNESS) style=(format_args!("fill:var(--series-{})", bar.series)) {}
                    }
                    @if let Some([low, high]) = bar.range && let (Some(low), Some(high)) = (x(low), x(high)) {
                        path.whisker d=(format_args!(
                            "M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8",
                            middle - 4.0, middle - 4.0
                        )) {}
                    }
                    @if !bar.note.is_empty() {
                        text.quiet.over x=(MARGIN + 6.0) y=(top + LINE + THICKNESS + LINE - 6.0)
                            { (fitting(&bar.note, WIDTH - MARGIN)) }
                    }
                }
                text.quiet text-anchor="middle" x=(WIDTH / 2.0) y=(bottom + 2.0 * LINE)
                    { (fitting(&self.label, WIDTH)) }
            }
        }
    }

    /// The bars with their title as a caption, and the values as a table.
    pub fn figure(&self) -> Markup {
        let ranges = self.bars.iter().any(|bar| bar.range.is_some());
        let notes = self.bars.iter().any(|bar| !bar.note.is_empty());
        let mut head = vec!["", &*self.label];
        head.extend(ranges.then_some(["least", "largest"]).into_iter().flatten());
        head.extend(notes.then_some("note"));
        let row = |bar: &Bar| {
            let mut row = vec![bar.name.clone(), number(bar.value)];
            let range = bar.range.map_or([String::new(), String::new()], |range| range.map(number));
            row.extend(ranges.then_some(range).into_iter().flatten());
            row.extend(notes.then(|| bar.note.clone()));
            row
        };
        let rows: Vec<_> = self.bars.iter().map(row).collect();
        html! {
            figure {
                figcaption { (self.title) }
                (self.svg())
                details { summary { "Values" } (table(&head, &rows)) }
            }
        }
    }

    /// The bars in words.
    fn description(&self) -> String {
        let bars: Vec<String> = self.bars.iter().map(|bar| format!("{}: {}", bar.name, bar.told())).collect();
        format!("{}. {}", self.label, bars.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_without_a_place_are_told_in_words() {
        let bar = |value, range| Bar { name: "<a>".into(), value, range, note: String::new(), series: 0 };
        for scale in [Scale::Linear, Scale::Log] {
            let odd = [f64::NAN, f64::INFINITY, 0.0, -3.0, 5e-324, f64::MAX];
            let bars = odd.map(|value| bar(value, Some([value, 2.0]))).to_vec();
            for bars in [bars, vec![], vec![bar(0.9, None)]] {
                let text = Bars { title: "a & b".into(), label: "accuracy".into(), scale, bars }.figure().into_string();
                let numbers = text
                    .split('"')
                    .filter(|word| word.starts_with(|c: char| c == 'M' || c.is_ascii_digit() || c == '-'));
                for word in numbers {
                    assert!(!word.contains("NaN") && !word.contains("inf"), "{word}");
                }
                assert!(text.contains("<title>a &amp; b</title>") && !text.contains("<a>"));
            }
        }
    }
}
