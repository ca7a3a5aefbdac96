//! NumPy's `.npy` files (versions 1 to 3) of any real number type, either byte order and either
//! memory order, as `f64`.

use std::{fs, path::Path};

use ndarray::{Array2, ShapeBuilder};

use crate::base::{Error, Result};

/// A matrix and whether the file held numbers of at most 32-bit float precision.
pub struct Npy {
    pub values: Array2<f64>,
    pub single: bool,
}

/// Reads a two-dimensional array. Types: bool, signed and unsigned integers, f16, f32, f64.
pub fn read(path: &Path) -> Result<Npy> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes).map_err(|what| Error::data(path, what))
}

fn parse(bytes: &[u8]) -> Result<Npy, String> {
    let short = || "the file ends inside its header; copy it again".to_string();
    if bytes.get(..6) != Some(b"\x93NUMPY") {
        return Err("not a .npy file (it does not begin with \\x93NUMPY)".into());
    }
    let (length, start) = match bytes.get(6).ok_or_else(short)? {
        1 => (
            u16::from_le_bytes(bytes.get(8..10).ok_or_else(short)?.try_into().expect("two bytes"))
                as usize,
            10,
        ),
        2 | 3 => (
            u32::from_le_bytes(bytes.get(8..12).ok_or_else(short)?.try_into().expect("four bytes"))
                as usize,
            12,
        ),
        v => return Err(format!("format version {v} of .npy is unknown (expected 1 to 3)")),
    };
    let header = String::from_utf8_lossy(bytes.get(start..start + length).ok_or_else(short)?);
    let kind = quoted(&header, "descr")
        .ok_or("the header names no plain number type (a structured array?)")?;
    let shape = shape(&header).ok_or("the header names no shape")?;
    let [rows, columns] = shape[..] else {
        return Err(format!("expected a matrix, found {} dimensions {shape:?}", shape.len()));
    };
    let fortran = field(&header, "fortran_order").is_some_and(|v| v.starts_with("True"));

    let decode = decoder(kind)
        .ok_or_else(|| format!("the number type `{kind}` is not read; save it as float32"))?;
    let width: usize = kind[2..].parse().map_err(|_| format!("bad number type `{kind}`"))?;
    let data = &bytes[start + length..];
    let want = rows
        .checked_mul(columns)
        .and_then(|n| n.checked_mul(width))
        .ok_or("the shape is too large")?;
    if data.len() != want {
        return Err(format!(
            "a {rows} x {columns} matrix of `{kind}` takes {want} bytes, the file holds {}; copy \
                it again",
            data.len()
        ));
    }
    let values = data.chunks_exact(width).map(decode).collect();
    let values = Array2::from_shape_vec((rows, columns).set_f(fortran), values)
        .map_err(|e| e.to_string())?;
    Ok(Npy { values, single: matches!(&kind[1..], "f2" | "f4") })
}

/// What follows `'key':` in the header, a Python dictionary literal.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{key}'"))? + key.len() + 2;
    Some(header[at..].trim_start().strip_prefix(':')?.trim_start())
}

fn quoted<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let text = field(header, key)?.strip_prefix('\'')?;
    Some(&text[..text.find('\'')?]).filter(|t| t.len() >= 3 && t.is_ascii())
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let text = field(header, "shape")?.strip_prefix('(')?;
    text[..text.find(')')?]
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(|t| t.parse().ok())
        .collect()
}

/// Turns the bytes of one number into `f64`; `kind` is NumPy's, such as `<f4`.
fn decoder(kind: &str) -> Option<fn(&[u8]) -> f64> {
    macro_rules! number {
        ($t:ty) => {
            match &kind[..1] {
                ">" => |b| <$t>::from_be_bytes(b.try_into().expect("one number's bytes")) as f64,
                _ => |b| <$t>::from_le_bytes(b.try_into().expect("one number's bytes")) as f64,
            }
        };
    }
    Some(match &kind[1..] {
        "b1" => |b| f64::from(u8::from(b[0] != 0)),
        "u1" => number!(u8),
        "u2" => number!(u16),
        "u4" => number!(u32),
        "u8" => number!(u64),
        "i1" => number!(i8),
        "i2" => number!(i16),
        "i4" => number!(i32),
        "i8" => number!(i64),
        "f2" if kind.starts_with('>') => |b| half(u16::from_be_bytes([b[0], b[1]])),
        "f2" => |b| half(u16::from_le_bytes([b[0], b[1]])),
        "f4" => number!(f32),
        "f8" => number!(f64),
        _ => return None,
    })
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/npy.py` wrote the same 3 x 2 matrix with every type, byte order and memory
    /// order.
    #[test]
    fn every_type_and_order_reads_alike() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/npy");
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let want = match &name {
                n if n.contains('b') => [1.0, 0.0, 1.0, 1.0, 0.0, 1.0],
                n if n.contains('f') => [0.5, 0.25, 1.0, 0.0, 0.75, 0.000030517578125],
                _ => [1.0, 0.0, 3.0, 4.0, 5.0, 100.0],
            };
            let npy = read(&path).unwrap();
            assert_eq!(npy.values.dim(), (3, 2), "{name}");
            assert_eq!(npy.values.iter().copied().collect::<Vec<_>>(), want, "{name}");
            seen += 1;
        }
        assert!(seen >= 25, "{seen} files");
    }

    #[test]
    fn broken_files_are_told_apart() {
        let whole =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/npy/lf4C.npy"))
                .unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let cut = parse(&whole[..whole.len() - 1]).err().unwrap();
        assert!(cut.contains("24") && cut.contains("23"), "{cut}");
        assert!(parse(b"PK\x03\x04abcdefgh").err().unwrap().contains(".npy"));
    }

    #[test]
    fn half_precision() {
        let pairs = [
            (0x3c00, 1.0),
            (0x3555, 0.333251953125),
            (0x0001, 2f64.powi(-24)),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
        ];
        for (bits, want) in pairs {
            assert_eq!(half(bits), want);
        }
        assert!(half(0x7e00).is_nan() && half(0xfc00) == f64::NEG_INFINITY);
    }
}
