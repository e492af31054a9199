//! Filters, and the feature maps of one image.

use maud::{Markup, html};
use mlpconv::nn::Output;
use mlpconv::train::probabilities;

use super::classes::percent;
use super::look::Look;
use super::picture::Picture;
use crate::console::page::number;

/// Maps of a block that are shown, besides the mean of all.
const STRONGEST: usize = 7;
/// Classes whose maps are shown.
const CLASSES: usize = 12;
/// The side of a picture under a class's map, in pixels.
const SIDE: u32 = 112;
/// Filters in a row of the sheet, about the side of one in pixels, and the pixels between two.
const IN_A_ROW: usize = 16;
const FILTER: usize = 24;
const BETWEEN: usize = 2;
/// The most filters on a sheet.
const FILTERS: usize = 256;

/// Channel `channel` of an output of one image: its `[H, W]` values.
fn map(output: &Output<f32>, channel: usize) -> Vec<f32> {
    output.values.iter().skip(channel).step_by(output.shape.c().max(1)).copied().collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// One image, and what each block makes of it.
pub fn section(look: &Look) -> Markup {
    let blocks = look.blocks.len();
    let (classes, features) = match look.maps_are_classes {
        true => (look.blocks.last(), &look.blocks[..blocks - 1]),
        false => (None, &look.blocks[..]),
    };
    let input = Picture::of(&look.input.values, extents(&look.input), 1.0).within(SIDE, true);
    html! {
        p { (format_args!("Image {} of the {} images, of class {}, by {}.", look.image, look.measured, look.class(look.label), look.weights)) }
        div.card {
            img.pixels src=(input.data())
                alt=(format_args!("Test image {} of class {}", look.image, look.class(look.label)));
            span { (look.class(look.label)) }
        }
        @for (i, block) in features.iter().enumerate() { (strongest(i + 1, block)) }
        @if let Some(maps) = classes { (class_maps(look, blocks, maps)) }
    }
}

fn extents(output: &Output<f32>) -> [usize; 3] {
    [output.shape.h(), output.shape.w(), output.shape.c()]
}

/// The mean of a block's maps, and the maps with the largest means.
fn strongest(block: usize, output: &Output<f32>) -> Markup {
    let [height, width, channels] = extents(output);
    let all: Vec<f32> = output.values.chunks(channels.max(1)).map(mean).collect();
    let mut means: Vec<(usize, f32)> = (0..channels).map(|channel| (channel, mean(&map(output, channel)))).collect();
    means.sort_by(|a, b| b.1.total_cmp(&a.1));
    html! {
        h3 { (format_args!("Block {block}: {channels} channels of {height}×{width}")) }
        ul.gallery {
            (feature("mean of all", &all, [height, width], block))
            @for (channel, _) in means.iter().take(STRONGEST) {
                (feature(&format!("channel {channel}"), &map(output, *channel), [height, width], block))
            }
        }
    }
}

/// A map from its least value, black, to its largest, white.
fn feature(name: &str, values: &[f32], [height, width]: [usize; 2], block: usize) -> Markup {
    let (low, high) =
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    // A map of one value is black.
    let range = if high > low { high - low } else { f32::INFINITY };
    let grey: Vec<f32> = values.iter().map(|value| (value - low) / range).collect();
    let picture = Picture::of(&grey, [height, width, 1], 1.0).within(SIDE, false);
    html! {
        li.card {
            img.pixels src=(picture.data()) alt=(format_args!("Feature map of block {block}: {name}"));
            span { (name) }
            small { (number(f64::from(low))) " to " (number(f64::from(high))) }
        }
    }
}

/// The last block's maps, one for each class, over the picture; those with the largest scores first.
fn class_maps(look: &Look, block: usize, maps: &Output<f32>) -> Markup {
    let [height, width, channels] = extents(maps);
    let strongest = maps.values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    let strongest = if strongest > 0.0 { strongest } else { 1.0 };
    let probabilities = probabilities(&look.logits);
    let mut classes: Vec<usize> = (0..channels.min(look.logits.len())).collect();
    classes.sort_by(|a, b| look.logits[*b].total_cmp(&look.logits[*a]));
    let picture = |class: usize| {
        let values = map(maps, class).into_iter().map(|value| value / strongest).collect();
        let input = Picture::of(&look.input.values, extents(&look.input), 1.0).within(SIDE, true);
        input.under(values, [height, width]).data()
    };
    html! {
        h3 { (format_args!("Block {block}: a map of {height}×{width} for each class")) }
        p {
            "Global average pooling makes the last block's maps maps of the classes: the mean of each map is the class's \
             score, and nothing but softmax follows (Lin, Chen, Yan, Network in Network, section 3.2). Orange speaks for the \
             class there, blue against it; all pictures have one scale, enlarged from " (format_args!("{height}×{width}")) " values."
        }
        ul.gallery {
            @for class in classes.iter().take(CLASSES).copied() {
                li.card {
                    img src=(picture(class)) alt=(format_args!("Map of class {} over the image", look.class(class)));
                    strong { (look.class(class)) }
                    span { "score " (number(f64::from(look.logits[class]))) }
                    small { (percent(probabilities[class])) }
                }
            }
        }
        @if classes.len() > CLASSES {
            p.quiet { (format_args!("The {CLASSES} of {} classes with the largest scores.", classes.len())) }
        }
    }
}

/// The filters of the first convolution on one sheet.
pub fn filters(look: &Look) -> Markup {
    let Some(filters) = &look.filters else { return html! { p { "The network has no convolution." } } };
    // Weights lie KRSC: one filter after the other, each as an image.
    let (shape, count) = (filters.shape, filters.shape.n().min(FILTERS));
    let [height, width, channels] = extents(filters);
    let most = filters.values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    let scale = (FILTER / height.max(width)).max(1);
    let (tile_height, tile_width) = (height * scale + BETWEEN, width * scale + BETWEEN);
    let (columns, rows) = (count.min(IN_A_ROW), count.div_ceil(IN_A_ROW));
    let sheet = Picture::new(rows * tile_height, columns * tile_width, |row, column| {
        let filter = row / tile_height * IN_A_ROW + column / tile_width;
        let (r, s) = (row % tile_height / scale, column % tile_width / scale);
        if filter >= count || r >= height || s >= width {
            return [128.0; 3];
        }
        let weights = &filters.values[((filter * height + r) * width + s) * channels..][..channels];
        // Grey is zero.
        let shade = |weight: f32| 127.5 * (1.0 + if most > 0.0 { weight / most } else { 0.0 });
        if channels == 3 { [0, 1, 2].map(|channel| shade(weights[channel])) } else { [shade(mean(weights)); 3] }
    });
    let shown = if count < shape.n() { format!("The first {count} of {}", shape.n()) } else { format!("The {count}") };
    let input = if channels == 1 { "one channel".into() } else { format!("{channels} channels") };
    html! {
        p {
            (format_args!("{shown} filters of {height}×{width} on {input}. Grey is 0, black {} and white {}",
                number(f64::from(-most)), number(f64::from(most))))
            @if channels == 3 { ", in each colour" }
            "."
        }
        img.sheet.pixels src=(sheet.data())
            alt=(format_args!("The {count} filters of the first convolution, each {height}×{width}"));
    }
}
