//! Pictures within a page: PNG as data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageBuffer, ImageEncoder as _, Luma, Rgb, RgbImage};
use mlpconv::data::Dataset;

/// A picture in RGB.
pub struct Picture(RgbImage);

/// What a pixel becomes of values that are not numbers.
const NOTHING: Rgb<u8> = Rgb([128, 128, 128]);
const POSITIVE: [f32; 3] = [255.0, 110.0, 0.0];
const NEGATIVE: [f32; 3] = [40.0, 110.0, 255.0];

impl Picture {
    /// A picture whose pixels are given by row and column.
    pub fn new(height: usize, width: usize, pixel: impl Fn(usize, usize) -> [f32; 3]) -> Self {
        Picture(RgbImage::from_fn(width as u32, height as u32, |x, y| {
            let rgb = pixel(y as usize, x as usize);
            if rgb.iter().all(|value| value.is_finite()) { Rgb(rgb.map(|value| value.round() as u8)) } else { NOTHING }
        }))
    }

    /// A picture of `[height, width, channels]` values (HWC) from 0 to `white`: in colour if there are three channels or
    /// more, else grey.
    pub fn of(values: &[f32], [height, width, channels]: [usize; 3], white: f32) -> Self {
        Picture::new(height, width, |row, column| {
            let pixel = &values[(row * width + column) * channels..][..channels];
            let scaled = |channel: usize| pixel[channel] * 255.0 / white;
            if channels >= 3 { [0, 1, 2].map(scaled) } else { [scaled(0); 3] }
        })
    }

    /// Image `i` of a data set.
    pub fn of_image(data: &Dataset, i: usize) -> Self {
        let values: Vec<f32> = data.image(i).iter().map(|value| f32::from(*value)).collect();
        Picture::of(&values, [data.height(), data.width(), data.channels()], 255.0)
    }

    /// The picture with its longer side brought to `side` pixels if it is longer, or if it is shorter and `enlarged`.
    pub fn within(self, side: u32, enlarged: bool) -> Self {
        let (width, height) = self.0.dimensions();
        let longer = width.max(height);
        if longer == side || (longer < side && !enlarged) {
            return self;
        }
        let scaled = |extent: u32| (extent * side / longer).max(1);
        let filter = if longer < side { FilterType::Nearest } else { FilterType::Triangle };
        Picture(resize(&self.0, scaled(width), scaled(height), filter))
    }

    /// The picture under a heat map of `[height, width]` values from -1 to 1: orange where it is positive, blue where it is
    /// negative, the stronger the larger.
    pub fn under(self, values: Vec<f32>, [height, width]: [usize; 2]) -> Self {
        let Picture(mut picture) = self;
        // Resizing clamps to the range from 0 to 1.
        let values = values.into_iter().map(|value| (value.clamp(-1.0, 1.0) + 1.0) / 2.0).collect();
        let heat: Option<ImageBuffer<Luma<f32>, Vec<f32>>> = ImageBuffer::from_raw(width as u32, height as u32, values);
        let Some(heat) = heat else { return Picture(picture) };
        let heat = resize(&heat, picture.width(), picture.height(), FilterType::Triangle);
        for (pixel, heat) in picture.pixels_mut().zip(heat.pixels()) {
            let value = 2.0 * heat[0] - 1.0;
            if value.is_nan() {
                *pixel = NOTHING;
                continue;
            }
            let (colour, share) = (if value > 0.0 { POSITIVE } else { NEGATIVE }, 0.8 * value.abs());
            for (channel, colour) in pixel.0.iter_mut().zip(colour) {
                *channel = (f32::from(*channel) * (1.0 - share) + colour * share).round() as u8;
            }
        }
        Picture(picture)
    }

    /// The picture as PNG, for the `src` of an image.
    pub fn data(&self) -> String {
        format!("data:image/png;base64,{}", STANDARD.encode(self.png()))
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Vec<u8> {
        let mut png = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Default, PngFilter::Adaptive);
        let (width, height) = self.0.dimensions();
        // A picture in grey takes a third.
        let grey = self.0.pixels().all(|Rgb([r, g, b])| r == g && g == b);
        // Into memory, a picture that has pixels is always written.
        let _ = match grey {
            true => {
                let bytes: Vec<u8> = self.0.pixels().map(|pixel| pixel[0]).collect();
                encoder.write_image(&bytes, width, height, ExtendedColorType::L8)
            }
            false => encoder.write_image(&self.0, width, height, ExtendedColorType::Rgb8),
        };
        png
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(picture: &Picture) -> RgbImage {
        let data = picture.data();
        let png = STANDARD.decode(data.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        image::load_from_memory(&png).unwrap().to_rgb8()
    }

    #[test]
    fn a_picture_is_read_as_it_was_made() {
        let picture = read(&Picture::of(&[0.0, 0.5, 1.0, f32::NAN], [2, 2, 1], 1.0));
        assert_eq!(picture.as_raw()[..], [0, 0, 0, 128, 128, 128, 255, 255, 255, 128, 128, 128]);
        let picture = read(&Picture::of(&[0.0, 10.0, 20.0], [1, 1, 3], 20.0));
        assert_eq!(picture.as_raw()[..], [0, 128, 255]);
    }

    #[test]
    fn heat_is_orange_or_blue_and_nothing_stays() {
        let grey = || Picture::of(&[0.5], [1, 1, 1], 1.0).within(8, true);
        assert_eq!(read(&grey().under(vec![0.0], [1, 1])).get_pixel(3, 3), &Rgb([128; 3]));
        let [warm, cold] = [1.0, -1.0].map(|value| *read(&grey().under(vec![value], [1, 1])).get_pixel(3, 3));
        assert!(warm[0] > 200 && warm[2] < 60, "{warm:?}");
        assert!(cold[2] > 200 && cold[0] < 80, "{cold:?}");
    }

    #[test]
    fn sides_keep_their_ratio() {
        let size = |side, enlarged| Picture::new(20, 40, |_, _| [0.0; 3]).within(side, enlarged).0.dimensions();
        assert_eq!([size(80, true), size(80, false), size(10, false)], [(80, 40), (40, 20), (10, 5)]);
    }
}
