//! Curves as SVG: told apart by dashes and markers as well as by colour, with the values under the pointer, and with a
//! table of them.

use maud::{Markup, html};

use super::axis::{Axis, Span};
use super::lettering::{LINE, fitting, width};
use super::{number, table};

/// A curve.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// `[x, y]`, in order of x. A point without a place on the axes is a gap.
    pub points: Vec<[f64; 2]>,
    /// `[x, low, high]`: a range about the curve. May be empty.
    pub band: Vec<[f64; 3]>,
}

/// A chart of curves.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

const WIDTH: f64 = 640.0;
const PLOT_HEIGHT: f64 = 260.0;
const RIGHT: f64 = 24.0;

/// The number of colours in the style sheet.
const COLOURS: usize = 8;
/// The dashes of curves. With as many markers and colours as there are, no two of the first 24 curves look alike.
const DASHES: [&str; 3] = ["none", "9 4", "3 3"];
/// The most points of a curve that have markers each.
const MARKED: usize = 40;
/// The most places of the pointer with values of their own.
const PLACES: usize = 150;
/// The most curves whose values are shown under the pointer.
const TOLD: usize = 9;
/// The most rows of a table of values.
const ROWS: usize = 500;

/// The inner part of a chart, and how values are placed in it.
struct Plot {
    left: f64,
    top: f64,
    x: Span,
    y: Span,
}

impl Plot {
    fn x(&self, value: f64) -> Option<f64> {
        self.x.place(value).map(|place| self.left + place * (WIDTH - RIGHT - self.left))
    }

    fn y(&self, value: f64) -> Option<f64> {
        self.y.place(value).map(|place| self.bottom() - place * PLOT_HEIGHT)
    }

    fn bottom(&self) -> f64 {
        self.top + PLOT_HEIGHT
    }

    /// Places of neighbouring points, cut at those without one.
    fn runs<const N: usize>(&self, points: &[[f64; N]]) -> Vec<Vec<[f64; N]>> {
        let place = |point: &[f64; N]| {
            let mut placed = [self.x(point[0])?; N];
            for (placed, value) in placed.iter_mut().zip(point).skip(1) {
                *placed = self.y(*value)?;
            }
            Some(placed)
        };
        let placed: Vec<_> = points.iter().map(place).collect();
        placed
            .split(Option::is_none)
            .map(|run| run.iter().flatten().copied().collect())
            .filter(|run: &Vec<_>| !run.is_empty())
            .collect()
    }
}

impl Chart {
    /// The chart as an SVG element, which the style sheet of a [`Page`](super::Page) colours.
    pub fn svg(&self) -> Markup {
        let (legend, rows) = self.legend();
        let ys = self.series.iter().flat_map(|series| {
            let points = series.points.iter().map(|point| point[1]);
            points.chain(series.band.iter().flat_map(|[_, low, high]| [*low, *high]))
        });
        let (x, y) = (Span::of(self.x.scale, self.xs().into_iter(), false), Span::of(self.y.scale, ys, true));
        let widest = y.ticks().iter().map(|(_, label)| width(label)).fold(0.0, f64::max);
        // Above the plot are the rows of the legend, and the label of the axis.
        let plot = Plot { left: widest + 10.0, top: (rows + 1) as f64 * LINE + 16.0, x, y };
        let height = plot.bottom() + 2.0 * LINE + 8.0;
        html! {
            svg.chart role="img" viewBox=(format_args!("0 0 {WIDTH} {height}")) {
                title { (self.title) }
                desc { (self.description()) }
                (legend)
                (self.axes(&plot))
                @for (i, series) in self.series.iter().enumerate() { (curve(&plot, series, i)) }
                (self.tips(&plot))
            }
        }
    }

    /// The chart with its title as a caption, and the values as a table.
    pub fn figure(&self) -> Markup {
        let xs = self.xs();
        let every = xs.len().div_ceil(ROWS).max(1);
        let mut head = vec![&*self.x.label];
        head.extend(self.series.iter().map(|series| &*series.name));
        let row = |x: &f64| {
            let cells = self.series.iter().map(|series| value_at(series, *x).unwrap_or_default());
            [number(*x)].into_iter().chain(cells).collect()
        };
        // The last one is in the table in any case.
        let rows: Vec<Vec<String>> =
            xs.iter().rev().step_by(every).map(row).collect::<Vec<_>>().into_iter().rev().collect();
        html! {
            figure {
                figcaption { (self.title) }
                (self.svg())
                details {
                    summary { "Values" @if every > 1 { (format_args!(" (one in {every})")) } }
                    (table(&head, &rows))
                }
            }
        }
    }

    /// Every x of a point, in order, each once.
    fn xs(&self) -> Vec<f64> {
        let points = self.series.iter().flat_map(|series| series.points.iter().map(|point| point[0]));
        let mut xs: Vec<f64> = points.collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// The curves in words.
    fn description(&self) -> String {
        let mut text = format!("{} by {}.", self.y.label, self.x.label);
        for series in &self.series {
            text += &match (series.points.first(), series.points.last()) {
                (Some([from, first]), Some([to, last])) => {
                    let [from, first, to, last] = [from, first, to, last].map(|value| number(*value));
                    format!(" {}: {first} at {from}, {last} at {to}.", series.name)
                }
                _ => format!(" {}: no values.", series.name),
            };
        }
        text
    }

    /// The names of the curves, and how many rows they take. A single curve has the chart's title.
    fn legend(&self) -> (Markup, usize) {
        const SAMPLE: f64 = 34.0;
        const GAP: f64 = 20.0;
        if self.series.len() < 2 {
            return (html! {}, 0);
        }
        let (mut x, mut row) = (0.0, 0);
        let mut places = Vec::new();
        for series in &self.series {
            let name = fitting(&series.name, WIDTH - SAMPLE - 8.0);
            let needed = SAMPLE + 8.0 + width(&name);
            if x > 0.0 && x + needed > WIDTH {
                (x, row) = (0.0, row + 1);
            }
            places.push((x, row as f64 * LINE + 0.5 * LINE, name));
            x += needed + GAP;
        }
        let markup = html! {
            @for (i, (x, y, name)) in places.iter().enumerate() {
                (line(format_args!("M{x:.1} {y:.1}h{SAMPLE:.1}"), i))
                (marker(i, x + SAMPLE / 2.0, *y))
                text x=(format_args!("{:.1}", x + SAMPLE + 8.0)) y=(format_args!("{:.1}", y + 5.0)) { (name) }
            }
        };
        (markup, row + 1)
    }

    fn axes(&self, plot: &Plot) -> Markup {
        let (left, right, top, bottom) = (plot.left, WIDTH - RIGHT, plot.top, plot.bottom());
        let room = right - left;
        html! {
            g.ticks {
                @for (tick, label) in plot.y.ticks() {
                    @if let Some(y) = plot.y(tick) {
                        line x1=(format_args!("{left:.1}")) x2=(right) y1=(format_args!("{y:.1}")) y2=(format_args!("{y:.1}")) {}
                        text text-anchor="end" x=(format_args!("{:.1}", left - 6.0)) y=(format_args!("{:.1}", y + 5.0)) { (label) }
                    }
                }
                @for (tick, label) in plot.x.ticks() {
                    @if let Some(x) = plot.x(tick) {
                        line x1=(format_args!("{x:.1}")) x2=(format_args!("{x:.1}")) y1=(bottom) y2=(bottom + 5.0) {}
                        text text-anchor="middle" x=(format_args!("{x:.1}")) y=(bottom + LINE) { (label) }
                    }
                }
            }
            path.axis d=(format_args!("M{left:.1} {top:.1}V{bottom:.1}H{right:.1}")) {}
            text.quiet x="0" y=(top - 16.0) { (fitting(&self.y.label, WIDTH)) }
            text.quiet text-anchor="middle" x=(format_args!("{:.1}", left + room / 2.0)) y=(bottom + 2.0 * LINE) {
                (fitting(&self.x.label, room))
            }
        }
    }

    /// The values at each x, which are shown while the pointer is nearest to it.
    fn tips(&self, plot: &Plot) -> Markup {
        let (left, right) = (plot.left, WIDTH - RIGHT);
        let xs: Vec<(f64, f64)> = self.xs().into_iter().filter_map(|x| Some((x, plot.x(x)?))).collect();
        let every = xs.len().div_ceil(PLACES).max(1);
        let xs: Vec<(f64, f64)> = xs.into_iter().step_by(every).collect();
        html! {
            @for (i, (value, x)) in xs.iter().enumerate() {
                @let from = i.checked_sub(1).map_or(left, |before| (xs[before].1 + x) / 2.0);
                @let to = xs.get(i + 1).map_or(right, |after| (after.1 + x) / 2.0);
                @let lines = self.told(*value);
                @let wide = lines.iter().map(|line| width(line)).fold(0.0, f64::max).min(WIDTH - 20.0) + 16.0;
                @let box_x = if *x < (left + right) / 2.0 { (x + 8.0).min(WIDTH - wide) } else { (x - 8.0 - wide).max(0.0) };
                g.at {
                    rect.hit x=(format_args!("{from:.1}")) y=(plot.top) width=(format_args!("{:.1}", to - from)) height=(PLOT_HEIGHT) {}
                    g.tip {
                        line x1=(format_args!("{x:.1}")) x2=(format_args!("{x:.1}")) y1=(plot.top) y2=(plot.bottom()) {}
                        rect x=(format_args!("{box_x:.1}")) y=(plot.top + 4.0) rx="4" width=(format_args!("{wide:.1}"))
                            height=(lines.len() as f64 * LINE + 10.0) {}
                        @for (row, line) in lines.iter().enumerate() {
                            text x=(format_args!("{:.1}", box_x + 8.0)) y=(plot.top + 4.0 + (row + 1) as f64 * LINE) { (line) }
                        }
                    }
                }
            }
        }
    }

    /// The lines that tell the values at an x.
    fn told(&self, x: f64) -> Vec<String> {
        let values = self.series.iter().filter_map(|series| Some((&series.name, value_at(series, x)?)));
        let values: Vec<String> = values.map(|(name, value)| format!("{} {value}", fitting(name, 300.0))).collect();
        let more = values.len().saturating_sub(TOLD);
        let mut lines = vec![fitting(&format!("{} {}", self.x.label, number(x)), 400.0)];
        lines.extend(values.into_iter().take(TOLD));
        lines.extend((more > 0).then(|| format!("and {more} more")));
        lines
    }
}

/// The value of a curve at an x, to read, if it has one there.
fn value_at(series: &Series, x: f64) -> Option<String> {
    let [_, y] = series.points.iter().find(|point| point[0].total_cmp(&x).is_eq())?;
    let range = series.band.iter().find(|band| band[0].total_cmp(&x).is_eq());
    let range = range.map_or(String::new(), |[_, low, high]| format!(" ({} to {})", number(*low), number(*high)));
    Some(format!("{}{range}", number(*y)))
}

/// Curve `i` of a chart, over the range about it.
fn curve(plot: &Plot, series: &Series, i: usize) -> Markup {
    let colour = i % COLOURS;
    let runs = plot.runs(&series.points);
    let count: usize = runs.iter().map(Vec::len).sum();
    let every = count.div_ceil(MARKED).max(1);
    let path = |run: &[[f64; 2]]| {
        let mut path = String::new();
        for (i, [x, y]) in run.iter().enumerate() {
            path += &format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        path
    };
    html! {
        @for run in plot.runs(&series.band) {
            @if let [[x, low, high]] = run[..] {
                path.whisker style=(format_args!("stroke:var(--series-{colour})"))
                    d=(format_args!("M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8", x - 4.0, x - 4.0)) {}
            } @else {
                @let there = run.iter().map(|[x, low, _]| [*x, *low]);
                @let back = run.iter().rev().map(|[x, _, high]| [*x, *high]);
                path.band style=(format_args!("fill:var(--series-{colour})"))
                    d=(format_args!("{}Z", path(&there.chain(back).collect::<Vec<_>>()))) {}
            }
        }
        @for run in &runs { @if run.len() > 1 { (line(path(run), i)) } }
        @for (at, [x, y]) in runs.iter().flatten().enumerate() {
            @if at % every == 0 || at + 1 == count { (marker(i, *x, *y)) }
        }
    }
}

/// A path in the colour and the dash of curve `i`.
fn line(path: impl std::fmt::Display, i: usize) -> Markup {
    let (colour, dash) = (i % COLOURS, DASHES[i % DASHES.len()]);
    html! {
        path.curve d=(format_args!("{path}")) stroke-dasharray=(dash) style=(format_args!("stroke:var(--series-{colour})")) {}
    }
}

/// The marker of curve `i` at a place.
fn marker(i: usize, x: f64, y: f64) -> Markup {
    let shape = match i % 5 {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "m-3.5 -3.5h7v7h-7z",
        2 => "m0 -5l5 8.5h-10z",
        3 => "m0 -5l4.5 5l-4.5 5l-4.5 -5z",
        _ => "m0 5l5 -8.5h-10z",
    };
    html! { path d=(format_args!("M{x:.1} {y:.1}{shape}")) style=(format_args!("fill:var(--series-{})", i % COLOURS)) {} }
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    fn chart(series: Vec<Series>, scale: Scale) -> String {
        let axis = |label: &str, scale| Axis { label: label.into(), scale };
        let chart = Chart { title: "<loss>".into(), x: axis("epoch", Scale::Linear), y: axis("loss", scale), series };
        chart.figure().into_string()
    }

    fn series(points: &[[f64; 2]], band: &[[f64; 3]]) -> Series {
        Series { name: "a & b".into(), points: points.to_vec(), band: band.to_vec() }
    }

    #[test]
    fn data_without_a_place_breaks_no_chart() {
        let (nan, infinite) = (f64::NAN, f64::INFINITY);
        for points in [
            &[][..],
            &[[1.0, 0.5]],
            &[[1.0, nan]],
            &[[nan, 1.0], [1.0, infinite], [2.0, 0.5]],
            &[[1.0, 0.0], [2.0, -1.0]],
            &[[1.0, f64::MAX], [2.0, f64::MIN]],
            &[[1.0, 1e-310], [2.0, 1e-310]],
        ] {
            for band in [&[][..], &[[1.0, nan, 2.0]], &[[1.0, 0.1, 0.3]], &[[1.0, 0.1, 0.3], [2.0, 0.0, infinite]]] {
                for scale in [Scale::Linear, Scale::Log] {
                    let text = chart(vec![series(points, band), series(points, &[])], scale);
                    let svg = &text[..text.find("<details").unwrap()];
                    // A tip tells the values as they are.
                    let numbers = svg
                        .split(['"', ' ', '>'])
                        .filter(|word| word.starts_with(|c: char| c == 'M' || c.is_ascii_digit()));
                    for word in numbers {
                        assert!(!word.contains("NaN") && !word.contains("inf"), "{points:?} {band:?}: {word}");
                    }
                    assert!(text.contains("role=\"img\"") && text.contains("<title>&lt;loss&gt;</title>"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_curve_is_cut_where_a_value_is_missing() {
        let text =
            chart(vec![series(&[[1.0, 1.0], [2.0, 2.0], [3.0, f64::NAN], [4.0, 1.0], [5.0, 2.0]], &[])], Scale::Linear);
        assert_eq!(text.matches("class=\"curve\"").count(), 2, "two pieces");
        assert!(text.contains("NaN"), "the table names it");
    }

    #[test]
    fn thousands_of_points_stay_a_small_chart() {
        let points: Vec<[f64; 2]> = (0..5000).map(|i| [f64::from(i), f64::from(i).sin()]).collect();
        let text = chart(vec![series(&points, &[])], Scale::Linear);
        assert!(text.len() < 200_000, "{}", text.len());
        assert!(text.contains("Values (one in 10)"));
        assert!(text.contains(">4,999</th>"), "the last one is there");
    }
}
