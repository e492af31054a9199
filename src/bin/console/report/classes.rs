//! What the network makes of the classes: confusion matrix, precision and recall, and the worst mistakes as pictures.

use std::cmp::Reverse;

use maud::{Markup, html};
use mlpconv::train::Confusion;

use super::look::Look;
use super::picture::Picture;
use crate::console::grouped;
use crate::console::page::{Bar, Bars, Scale, table};

/// The most classes with a confusion matrix. Beyond them it cannot be read, and a list of confusions can.
const MATRIX: usize = 25;
/// The length of that list.
const LISTED: usize = 40;
/// Mistakes that are shown.
const MISTAKES: usize = 24;
/// The longest side of a mistake's picture, in pixels.
const SIDE: u32 = 96;

/// Confusion, and precision and recall of each class.
pub fn section(look: &Look) -> Markup {
    let confusion = look.classified.confusion();
    let (all, measured) = (grouped(look.of), look.measured);
    let images = match look.images() == look.of {
        true => format!("all {all} {measured} images"),
        false => format!("{} of {all} {measured} images, evenly spread over them", grouped(look.images())),
    };
    html! {
        p { (format_args!("By {}, on {images}: accuracy {}.", look.weights, share(confusion.accuracy()))) }
        @if confusion.classes() <= MATRIX { (matrix(look, &confusion)) } @else { (list(look, &confusion)) }
        (rates(look, &confusion))
    }
}

fn share(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{share:.4}"))
}

/// A row for each class by label, a column for each class by prediction. The cells are shaded by their share of the row.
fn matrix(look: &Look, confusion: &Confusion) -> Markup {
    let classes = 0..confusion.classes();
    let shade = |label: usize, predicted: usize| {
        let share = confusion.row(label)[predicted] as f64 / confusion.labelled(label).max(1) as f64;
        let colour = if label == predicted { "0 114 178" } else { "194 65 12" };
        // The square root shows rare mistakes too.
        (share > 0.0).then(|| format!("background:rgb({colour} / {:.2})", 0.5 * share.sqrt()))
    };
    html! {
        h3 { "Confusion matrix" }
        p.quiet { "A row for each class, a column for what its images were taken for." }
        div.scroll tabindex="0" role="group" aria-label="Confusion matrix" {
            table.matrix {
                thead {
                    tr {
                        th scope="col" { "is ↓, taken for →" }
                        @for class in classes.clone() { th scope="col" { span { (look.class(class)) } } }
                    }
                }
                tbody {
                    @for label in classes.clone() {
                        tr {
                            th scope="row" { (look.class(label)) }
                            @for predicted in classes.clone() {
                                td.number style=[shade(label, predicted)] { (confusion.row(label)[predicted]) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The most frequent confusions.
fn list(look: &Look, confusion: &Confusion) -> Markup {
    let classes = confusion.classes();
    let mut pairs: Vec<(usize, usize, usize)> = (0..classes * classes)
        .map(|i| (confusion.row(i / classes)[i % classes], i / classes, i % classes))
        .filter(|(count, label, predicted)| *count > 0 && label != predicted)
        .collect();
    pairs.sort_by_key(|(count, ..)| Reverse(*count));
    let row = |(count, label, predicted): &(usize, usize, usize)| {
        vec![
            look.class(*label).to_owned(),
            look.class(*predicted).to_owned(),
            grouped(*count),
            grouped(confusion.labelled(*label)),
        ]
    };
    let rows: Vec<_> = pairs.iter().take(LISTED).map(row).collect();
    html! {
        h3 { "Most frequent confusions" }
        (table(&["is", "taken for", "images", "of the class"], &rows))
    }
}

fn rates(look: &Look, confusion: &Confusion) -> Markup {
    let classes = || 0..confusion.classes();
    let row = |class: usize| {
        let [precision, recall] = [confusion.precision(class), confusion.recall(class)].map(share);
        vec![look.class(class).to_owned(), precision, recall, grouped(confusion.labelled(class))]
    };
    let rows: Vec<_> = classes().map(row).collect();
    let bar = |class: usize| {
        let value = confusion.recall(class).unwrap_or(f64::NAN);
        Bar { name: look.class(class).to_owned(), value, range: None, note: String::new(), series: 0 }
    };
    let recall = Bars {
        title: "Recall of each class".into(),
        label: "share of the class's images that were taken for it".into(),
        scale: Scale::Linear,
        bars: classes().map(bar).collect(),
    };
    html! {
        h3 { "Precision and recall" }
        p.quiet {
            "Precision: of the images taken for a class, the share that is of it. Recall: of the images of a class, the \
             share that was taken for it. – where there are none."
        }
        (table(&["class", "precision", "recall", "images"], &rows))
        @if confusion.classes() <= MATRIX { (recall.figure()) }
    }
}

/// The mistakes of which the network was surest, as pictures.
pub fn mistakes(look: &Look) -> Markup {
    let mistakes = look.classified.mistakes();
    let picture = |i: usize| Picture::of_image(&look.dataset, i).within(SIDE, false).data();
    html! {
        @if mistakes.is_empty() {
            p { (format_args!("None of {} images was taken for another class.", grouped(look.images()))) }
        } @else {
            p {
                (grouped(mistakes.len())) " of " (grouped(look.images())) " images were taken for another class. "
                "These are the ones the network was surest of."
            }
            ul.gallery {
                @for i in mistakes.iter().take(MISTAKES).copied() {
                    @let (label, predicted) = (look.classified.label(i), look.classified.predicted(i));
                    @let probabilities = look.classified.probabilities(i);
                    li.card {
                        img.pixels src=(picture(i))
                            alt=(format_args!("Test image {} of class {}", look.number(i), look.class(label)));
                        strong { (look.class(predicted)) " " (percent(probabilities[predicted])) }
                        span { "is " (look.class(label)) " " (percent(probabilities[label])) }
                        small { "image " (look.number(i)) }
                    }
                }
            }
        }
    }
}

/// A probability as a percentage.
pub fn percent(probability: f32) -> String {
    match probability * 100.0 {
        percent if percent > 0.0 && percent < 0.05 => "<0.1%".into(),
        percent => format!("{percent:.1}%"),
    }
}
