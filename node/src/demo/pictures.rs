//! Pictures for the demo: landscapes that differ by their seed, and a large file that is made fast.
//!
//! Holds always: the same seed paints the same picture, byte for byte. They are real PNG files of several sizes,
//! grainy as photographs are, so that they do not compress to nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Names of the first album: folders, spaces, letters of several scripts.
const PLACES: [&str; 6] = [
    "2024 Été à la mer/Grüße vom Deich",
    "2024 Été à la mer/coucher de soleil",
    "Straße & Brücke/Nebel am Ærø",
    "写真/夕焼け",
    "Łódź 2023/żółty dzień",
    "hills",
];

/// Widths and heights in turn, in pixels.
const SIZES: [(u32, u32); 5] = [(640, 400), (320, 200), (1200, 750), (480, 640), (800, 500)];

/// A picture that was painted.
pub struct Picture {
    /// Its path in a media folder.
    pub path: String,
    /// The PNG file.
    pub bytes: Vec<u8>,
}

/// The album's picture number `seed`.
pub fn album_picture(seed: u64) -> Result<Picture, png::EncodingError> {
    let place = PLACES[(seed % PLACES.len() as u64) as usize];
    let bytes = paint(seed, false)?;
    Ok(Picture { path: format!("{place} {}.png", seed / PLACES.len() as u64 + 1), bytes })
}

/// A landscape as a PNG file; `framed` is the same one after somebody worked on it.
pub fn paint(seed: u64, framed: bool) -> Result<Vec<u8>, png::EncodingError> {
    let (width, height) = SIZES[(seed % SIZES.len() as u64) as usize];
    let landscape = Landscape::new(seed);
    let mut random = Random(seed);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    let frame = height / 20;
    let aspect = width as f32 / height as f32;
    let columns: Vec<f32> = (0..width).map(|x| x as f32 / width as f32 * aspect).collect();
    let horizons: Vec<[f32; 3]> = columns.iter().map(|x| landscape.horizons(*x)).collect();
    for y in 0..height {
        let in_edge_row = y < frame || y >= height - frame;
        for (x, (column, horizons)) in (0..width).zip(columns.iter().zip(&horizons)) {
            if framed && (in_edge_row || x < frame || x >= width - frame) {
                pixels.extend_from_slice(&[245, 240, 230]);
                continue;
            }
            let color = landscape.color(*column, y as f32 / height as f32, horizons);
            let grain = (random.next() % 13) as f32 - 6.0;
            // The conversion itself stays within 0 and 255.
            pixels.extend_from_slice(&color.map(|part| (part + grain) as u8));
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

/// Writes a file of `size` bytes that nothing can compress and no two seeds share.
pub fn write_large_file(path: &Path, size: u64, seed: u64) -> io::Result<()> {
    let mut random = Random(seed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut left = size;
    let mut block = vec![0; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let count = left.min(block.len() as u64);
        file.write_all(&block[..count as usize])?;
        left -= count;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// What is in a picture: a sky, a sun, and three ranges of hills.
struct Landscape {
    sky: [[f32; 3]; 2],
    sun: (f32, f32, f32),
    hills: [Hill; 3],
}

struct Hill {
    level: f32,
    height: f32,
    waves: [(f32, f32); 2],
    color: [f32; 3],
}

impl Landscape {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x7ca7);
        let mut unit = move || (random.next() >> 40) as f32 / (1 << 24) as f32;
        let dusk = unit();
        let sky = [
            [30.0 + 90.0 * (1.0 - dusk), 50.0 + 120.0 * (1.0 - dusk), 120.0 + 100.0 * unit()],
            [150.0 + 100.0 * dusk, 120.0 + 90.0 * unit(), 110.0 + 60.0 * unit()],
        ];
        let sun = (0.2 + 1.2 * unit(), 0.15 + 0.3 * unit(), 0.05 + 0.06 * unit());
        let base = [40.0 + 60.0 * unit(), 60.0 + 70.0 * unit(), 50.0 + 50.0 * unit()];
        let hills = [0, 1, 2].map(|range| Hill {
            level: 0.5 + 0.15 * range as f32,
            height: 0.04 + 0.08 * unit(),
            waves: [(2.0 + 5.0 * unit(), 6.3 * unit()), (7.0 + 9.0 * unit(), 6.3 * unit())],
            color: base.map(|part| part * (1.0 - 0.28 * range as f32)),
        });
        Self { sky, sun, hills }
    }

    /// How far down each range of hills begins, at one column.
    fn horizons(&self, x: f32) -> [f32; 3] {
        self.hills.each_ref().map(|hill| {
            let wave: f32 =
                hill.waves.iter().map(|(length, phase)| (x * length + phase).sin() / length).sum();
            hill.level - hill.height * 2.0 * wave
        })
    }

    fn color(&self, x: f32, y: f32, horizons: &[f32; 3]) -> [f32; 3] {
        let ranges = self.hills.iter().zip(horizons).rev();
        if let Some((hill, _)) = ranges.into_iter().find(|(_, horizon)| y > **horizon) {
            return hill.color;
        }
        let (sun_x, sun_y, radius) = self.sun;
        let distance = ((x - sun_x).powi(2) + (y - sun_y).powi(2)).sqrt();
        if distance < radius {
            return [255.0, 240.0, 190.0];
        }
        let glow = 60.0 * (1.0 - (distance - radius) * 2.5).max(0.0);
        let [above, below] = self.sky;
        [0, 1, 2].map(|part| above[part] + (below[part] - above[part]) * y * 1.6 + glow)
    }
}

/// SplitMix64: small, fast, and good enough for grain.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pictures_differ_by_seed_and_by_their_frame_and_by_nothing_else() {
        let same = (paint(1, false).unwrap(), paint(1, false).unwrap());
        assert_eq!(same.0, same.1);
        let all: BTreeSet<Vec<u8>> =
            [(1, false), (6, false), (1, true)].map(|(seed, framed)| paint(seed, framed).unwrap()).into();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_picture_is_a_readable_png_of_its_size() {
        let bytes = paint(3, false).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), SIZES[3]);
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
    }

    #[test]
    fn every_picture_of_an_album_has_a_path_of_its_own() {
        let paths: BTreeSet<String> = (0..14).map(|seed| album_picture(seed).unwrap().path).collect();
        assert_eq!(paths.len(), 14);
    }

    #[test]
    fn a_large_file_has_exactly_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        write_large_file(&path, 100_001, 5).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100_001);
    }
}
