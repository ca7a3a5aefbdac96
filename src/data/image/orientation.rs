//! How an image is to be turned, as cameras and viewers write it into TIFF, JPEG and PNG: values 1
//! (upright) to 8 as in TIFF's tag 274. It is honoured in all three formats.

use super::{raster::Raster, tiff::exif_orientation};

/// Of a JPEG, by the first EXIF segment before the image.
pub(super) fn of_jpeg(bytes: &[u8]) -> u8 {
    let mut rest = &bytes[2..];
    while let [0xff, kind, high, low, ..] = *rest {
        if kind == 0xff {
            rest = &rest[1..]; // a byte to fill up
            continue;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(content) = rest.get(4..2 + length) else { return 1 };
        match (kind, content.strip_prefix(b"Exif\0\0")) {
            (0xe1, Some(exif)) => return exif_orientation(exif),
            (0xda, _) => return 1,
            _ => rest = &rest[2 + length..],
        }
    }
    1
}

/// Of a PNG, by its chunk `eXIf`.
pub(super) fn of_png(bytes: &[u8]) -> u8 {
    let mut rest = &bytes[8.min(bytes.len())..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        match after.split_at_checked(4) {
            Some((b"eXIf", content)) => {
                return content.get(..length).map_or(1, exif_orientation);
            }
            Some((b"IEND", _)) | None => return 1,
            // and a checksum
            Some((_, content)) => rest = content.get(length + 4..).unwrap_or(&[]),
        }
    }
    1
}

/// Whether width and height change places.
pub(super) fn swaps(orientation: u8) -> bool {
    orientation >= 5
}

/// The upright image of one of `width` times `height` pixels.
pub(super) fn upright(
    Raster { step, pixels }: Raster,
    [width, height]: [usize; 2],
    orientation: u8,
) -> Raster {
    if orientation == 1 {
        return Raster { step, pixels };
    }
    let (right, bottom) = (width - 1, height - 1);
    let [w, h] = if swaps(orientation) { [height, width] } else { [width, height] };
    let mut turned = Vec::with_capacity(pixels.len());
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let (from_x, from_y) = match orientation {
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (y, bottom - x),
            7 => (right - y, bottom - x),
            _ => (right - y, x),
        };
        turned.extend_from_slice(&pixels[(from_y * width + from_x) * step..][..step]);
    }
    Raster { step, pixels: turned }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The letter F, as the EXIF standard shows all eight.
    #[test]
    fn each_orientation_is_turned_upright() {
        let upright_f = ["###", "#..", "##.", "#..", "#.."];
        let stored: [&[&str]; 7] = [
            &["###", "..#", ".##", "..#", "..#"],
            &["..#", "..#", ".##", "..#", "###"],
            &["#..", "#..", "##.", "#..", "###"],
            &["#####", "#.#..", "#...."],
            &["#....", "#.#..", "#####"],
            &["....#", "..#.#", "#####"],
            &["#####", "..#.#", "....#"],
        ];
        for (orientation, rows) in (2..).zip(stored) {
            let pixels = rows.concat().into_bytes();
            let raster = Raster { step: 1, pixels };
            let got = upright(raster, [rows[0].len(), rows.len()], orientation);
            assert_eq!(
                String::from_utf8(got.pixels).unwrap(),
                upright_f.concat(),
                "orientation {orientation}"
            );
        }
    }
}
