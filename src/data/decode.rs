//! Decoding of PNG and JPEG files, within limits that follow from a file's size.

use std::fmt;
use std::ops::Range;

use super::Resizer;
use crate::error::Result;

/// The extents that an image's file states in its head.
pub(super) struct Header {
    pub height: usize,
    pub width: usize,
    /// 1 or 3, transparency not counted.
    pub channels: usize,
}

/// A decoded image: `[height, width, channels]`, a byte a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub height: usize,
    pub width: usize,
    /// 1 (grey), 2 (grey and opacity), 3 (RGB) or 4 (RGB and opacity).
    pub channels: usize,
    pub values: Vec<u8>,
}

impl Image {
    /// The image without its opacities: every pixel is as if it were opaque.
    pub fn opaque(mut self) -> Self {
        if self.channels.is_multiple_of(2) {
            let (channels, colours) = (self.channels, self.channels - 1);
            let pixels = self.height * self.width;
            for pixel in 0..pixels {
                self.values.copy_within(pixel * channels..pixel * channels + colours, pixel * colours);
            }
            self.values.truncate(pixels * colours);
            self.channels = colours;
        }
        self
    }

    /// The image over white, or over black if its visible part is light: a visible pixel weighs as much as it is opaque.
    pub fn over_contrast(mut self) -> Self {
        let (channels, colours) = (self.channels, self.channels - 1);
        if !channels.is_multiple_of(2) {
            return self;
        }
        let (mut light, mut weight) = (0, 0);
        for pixel in self.values.chunks_exact(channels) {
            let opacity = u64::from(pixel[colours]);
            light += pixel[..colours].iter().map(|&level| u64::from(level)).sum::<u64>() * opacity;
            weight += opacity * colours as u64;
        }
        let behind = if light >= 128 * weight.max(1) { 0 } else { 255 };
        for pixel in self.values.chunks_exact_mut(channels) {
            let opacity = u32::from(pixel[colours]);
            for level in &mut pixel[..colours] {
                *level = ((u32::from(*level) * opacity + behind * (255 - opacity) + 127) / 255) as u8;
            }
        }
        self.opaque()
    }

    /// An opaque image with 1 or 3 channels. A grey level is repeated three times for RGB. A colour becomes the grey level
    /// that Pillow's `convert("L")` makes of it (ITU-R BT.601).
    pub fn with_channels(self, channels: usize) -> Self {
        let luma = |rgb: &[u8]| {
            let [r, g, b] = [0, 1, 2].map(|channel| u32::from(rgb[channel]));
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        let values = match (self.channels, channels) {
            (1, 3) => self.values.into_iter().flat_map(|grey| [grey; 3]).collect(),
            (3, 1) => self.values.chunks_exact(3).map(luma).collect(),
            _ => return self,
        };
        Image { channels, values, ..self }
    }

    /// The pixels in these rows and columns.
    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        let row = |y: usize| {
            &self.values[(y * self.width + columns.start) * self.channels..][..columns.len() * self.channels]
        };
        let values = rows.clone().flat_map(row).copied().collect();
        Image { height: rows.len(), width: columns.len(), channels: self.channels, values }
    }

    /// The largest middle part that has the aspect ratio of these extents.
    pub fn middle(self, height: usize, width: usize) -> Self {
        let within = |edge: usize, other: usize, of: usize, to: usize| edge.min((other * of / to).max(1));
        let rows = within(self.height, self.width, height, width);
        let columns = within(self.width, self.height, width, height);
        let (top, left) = ((self.height - rows) / 2, (self.width - columns) / 2);
        self.part(top..top + rows, left..left + columns)
    }

    /// The image in another size, whatever that does to its aspect ratio.
    ///
    /// # Errors
    /// As [`Resizer::new`].
    pub fn resized(self, height: usize, width: usize) -> Result<Self> {
        if [self.height, self.width] == [height, width] {
            return Ok(self);
        }
        let resizer = Resizer::new(self.height, self.width, height, width)?.with_channels(self.channels)?;
        let mut values = vec![0; height * width * self.channels];
        resizer.resize(&self.values, &mut values, &mut Vec::new())?;
        Ok(Image { height, width, values, ..self })
    }
}

/// The reason for which a file is not decoded.
// A build with decoders has other problems than one without.
#[allow(dead_code)]
pub(super) enum Problem {
    /// Its head claims more pixels than is plausible or allowed.
    TooLarge,
    /// It is a JPEG file without its end.
    CutShort,
    /// It is damaged, or of another format. The text is the decoder's.
    NoImage(String),
    /// This build decodes nothing.
    NoDecoder,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::TooLarge => f.write_str("claims more pixels than its bytes, or 512 MiB of memory, can hold"),
            Problem::CutShort => f.write_str("has no end, so it may be cut short"),
            Problem::NoImage(error) => write!(f, "cannot be read as an image ({error})"),
            Problem::NoDecoder => {
                f.write_str("this build cannot decode images; build it with the cargo feature images")
            }
        }
    }
}

#[cfg(feature = "images")]
mod decoders {
    use std::io::{self, BufRead, ErrorKind, Read, Seek};

    use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

    use super::{Header, Image, Problem};

    /// The most bytes of pixels that a byte of a file can become: deflate makes 1032 bytes of one, and a bit of a byte
    /// becomes four values where it is an index into a palette. (The decoder does not tell which files have a palette, so
    /// this bounds all of them.) JPEG makes fewer: a block takes a bit at least, and covers 32x32 pixels at most.
    const EXPANSION: u64 = 1032 * 8 * 4;

    /// A decoder of the format that the content has, whatever the file's name says. The limits, which are the second
    /// value, refuse more bytes than a file of `bytes` bytes can hold, so that memory follows the files' sizes and not
    /// what their heads claim.
    fn open<'a>(reader: impl BufRead + Seek + 'a, bytes: u64) -> Result<(impl ImageDecoder + 'a, Limits), Problem> {
        let mut reader =
            ImageReader::new(reader).with_guessed_format().map_err(|e| Problem::from(ImageError::from(e)))?;
        let mut limits = Limits::default();
        let most = bytes.saturating_mul(EXPANSION);
        limits.max_alloc = Some(limits.max_alloc.map_or(most, |limit| limit.min(most)));
        reader.limits(limits.clone());
        let decoder = reader.into_decoder()?;
        limits.reserve(decoder.total_bytes())?;
        Ok((decoder, limits))
    }

    impl From<ImageError> for Problem {
        fn from(error: ImageError) -> Self {
            match error {
                ImageError::Limits(_) => Problem::TooLarge,
                error => Problem::NoImage(error.to_string()),
            }
        }
    }

    /// Whether content that begins like this is a PNG or JPEG file.
    pub(in super::super) fn is_known(head: &[u8]) -> bool {
        matches!(image::guess_format(head), Ok(ImageFormat::Png | ImageFormat::Jpeg))
    }

    /// 1 for grey levels, 3 for anything else, which becomes RGB; and whether there are opacities.
    fn channels(color: ColorType) -> (usize, bool) {
        let colours = match color {
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16 => 1,
            _ => 3,
        };
        (colours, color.has_alpha())
    }

    /// Reads the head of a file of `bytes` bytes.
    pub(in super::super) fn header(reader: impl BufRead + Seek, bytes: u64) -> Result<Header, Problem> {
        let (decoder, _) = open(reader, bytes)?;
        let (width, height) = decoder.dimensions();
        let (channels, _) = channels(decoder.color_type());
        Ok(Header { height: height as usize, width: width as usize, channels })
    }

    /// Decodes a file of `bytes` bytes, and turns the image upright if `upright` asks for it, as the camera noted.
    pub(in super::super) fn image(
        mut reader: impl BufRead + Seek,
        bytes: u64,
        upright: bool,
    ) -> Result<Image, Problem> {
        require_end(&mut reader)?;
        let (mut decoder, limits) = open(reader, bytes)?;
        decoder.set_limits(limits)?;
        let orientation = if upright { decoder.orientation().ok() } else { None };
        let mut image = DynamicImage::from_decoder(decoder)?;
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        Ok(plain(image))
    }

    /// Refuses a JPEG file that was cut short. The decoder would fill what is missing with grey, and say nothing.
    fn require_end(reader: &mut (impl BufRead + Seek)) -> Result<(), Problem> {
        let failed = |error: io::Error| Problem::from(ImageError::from(error));
        if !reader.fill_buf().map_err(failed)?.starts_with(&[0xFF, 0xD8]) {
            return Ok(());
        }
        match has_end(reader) {
            Ok(true) => reader.rewind().map_err(failed),
            Ok(false) => Err(Problem::CutShort),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Problem::CutShort),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether a JPEG file has the marker of its end after its first scan. Segments are skipped by their lengths: one may hold
    /// a thumbnail, which has an end of its own. What follows the end is not looked at.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends within a marker or a length.
    fn has_end(jpeg: &mut impl BufRead) -> io::Result<bool> {
        let mut scanned = false;
        while jpeg.skip_until(0xFF)? > 0 {
            let mut marker = [0xFF];
            while marker == [0xFF] {
                jpeg.read_exact(&mut marker)?;
            }
            match marker[0] {
                0xD9 if scanned => return Ok(true),
                // These begin no segment: an FF of a scan's data (a 0 follows it), a restart, the file's beginning.
                0x00 | 0x01 | 0xD0..=0xD9 => continue,
                marker => scanned |= marker == 0xDA,
            }
            let mut length = [0; 2];
            jpeg.read_exact(&mut length)?;
            // The length counts itself.
            let rest = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
            io::copy(&mut jpeg.by_ref().take(rest), &mut io::sink())?;
        }
        Ok(false)
    }

    /// The image with 8 bits a channel.
    fn plain(image: DynamicImage) -> Image {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let (channels, values) = match channels(image.color()) {
            (1, false) => (1, image.into_luma8().into_raw()),
            (1, true) => (2, image.into_luma_alpha8().into_raw()),
            (_, false) => (3, image.into_rgb8().into_raw()),
            (_, true) => (4, image.into_rgba8().into_raw()),
        };
        Image { height, width, channels, values }
    }

    #[cfg(test)]
    mod tests {
        use super::has_end;

        #[test]
        fn a_jpegs_end_is_the_marker_after_its_scans() {
            let thumbnail = &b"\xFF\xE1\x00\x08\xFF\xDA\xFF\xD9\xFF\xD9"[..];
            let scan = &b"\xFF\xDA\x00\x04\xFF\xD9data\xFF\x00\xD9\xFF\xD0more"[..];
            let whole = [&b"\xFF\xD8"[..], thumbnail, scan, b"\xFF\xC4\x00\x02", scan, b"\xFF\xFF\xD9"].concat();
            let file = [&whole[..], b"\xFF\xDAand more"].concat();
            for len in 0..=file.len() {
                assert_eq!(has_end(&mut &file[..len]).unwrap_or(false), len >= whole.len(), "{len} bytes");
            }
        }
    }
}

#[cfg(not(feature = "images"))]
mod decoders {
    use std::io::{BufRead, Seek};

    use super::{Header, Image, Problem};

    pub(in super::super) fn is_known(_: &[u8]) -> bool {
        true
    }

    pub(in super::super) fn header(_: impl BufRead + Seek, _: u64) -> Result<Header, Problem> {
        Err(Problem::NoDecoder)
    }

    pub(in super::super) fn image(_: impl BufRead + Seek, _: u64, _: bool) -> Result<Image, Problem> {
        Err(Problem::NoDecoder)
    }
}

pub(super) use decoders::{header, image, is_known};
