//! NumPy's `.npy` files (versions 1 to 3) of any real number type, either byte order and either
//! memory order, as `f64`.

use std::{fs, io, path::Path};

use ndarray::{Array2, ShapeBuilder};
use npyz::{DType, NpyFile, NpyHeader, Order, half::f16};

use crate::base::{Error, Result};

/// Reads a two-dimensional array. Types: bool, signed and unsigned integers, f16, f32, f64. Also
/// returns whether the file holds numbers of at most 32-bit float precision.
///
/// # Errors
/// Data where the file is damaged, has another number of dimensions or another type.
pub fn read(path: &Path) -> Result<(Array2<f64>, bool)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes).map_err(|what| Error::data(path, what))
}

fn parse(bytes: &[u8]) -> Result<(Array2<f64>, bool), String> {
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("not a .npy file (it does not begin with \\x93NUMPY)".into());
    }
    // The crate reserves whatever length a header claims.
    let (start, length) = match (bytes.get(6), bytes.get(8..)) {
        (Some(1), Some(&[a, b, ..])) => (10, u16::from_le_bytes([a, b]).into()),
        (Some(_), Some(&[a, b, c, d, ..])) => (12, u32::from_le_bytes([a, b, c, d])),
        _ => (0, u32::MAX),
    };
    let Some(text) = bytes.get(start..).and_then(|rest| rest.get(..length as usize)) else {
        return Err("the file ends inside its header; copy it again".into());
    };
    // The header of a plain array is a dictionary with a tuple. The time that the crate takes for
    // brackets in brackets doubles with each.
    if text.iter().filter(|byte| b"{[(".contains(byte)).count() > 2 {
        return Err("the header is damaged, or of a structured array, which is not read".into());
    }
    let mut data = bytes;
    let header = NpyHeader::from_reader(&mut data).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends inside its header; copy it again".into(),
        _ => format!("the header cannot be read: {e}"),
    })?;
    let &[rows, columns] = header.shape() else {
        let shape = header.shape();
        return Err(format!("expected a matrix, found {} dimensions {shape:?}", shape.len()));
    };
    let DType::Plain(kind) = header.dtype() else {
        return Err("a structured array has no plain number type".into());
    };
    let want = kind.num_bytes().and_then(|n| (n as u64).checked_mul(rows)?.checked_mul(columns));
    let want = want.ok_or("the shape is too large")?;
    if data.len() as u64 != want {
        return Err(format!(
            "a {rows} x {columns} matrix of `{kind}` takes {want} bytes, the file holds {}; copy \
                it again",
            data.len()
        ));
    }
    let order = header.order();
    let file = NpyFile::with_header(header, data);
    let name = kind.to_string();
    macro_rules! numbers {
        ($t:ty) => {
            file.into_vec::<$t>().map(|all| all.into_iter().map(|v| v as f64).collect())
        };
    }
    let values: io::Result<Vec<f64>> = match &name[1..] {
        "b1" => file.into_vec::<bool>().map(|all| all.into_iter().map(f64::from).collect()),
        "f2" => file.into_vec::<f16>().map(|all| all.into_iter().map(f64::from).collect()),
        "f4" => numbers!(f32),
        "f8" => file.into_vec::<f64>(),
        "u1" => numbers!(u8),
        "u2" => numbers!(u16),
        "u4" => numbers!(u32),
        "u8" => numbers!(u64),
        "i1" => numbers!(i8),
        "i2" => numbers!(i16),
        "i4" => numbers!(i32),
        "i8" => numbers!(i64),
        _ => return Err(format!("the number type `{name}` is not read; save it as float32")),
    };
    let shape = (rows as usize, columns as usize).set_f(order == Order::Fortran);
    let values = Array2::from_shape_vec(shape, values.map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())?;
    Ok((values, matches!(&name[1..], "f2" | "f4")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/npy.py` wrote the same 3 x 2 matrix with every type, byte order and memory
    /// order.
    #[test]
    fn every_type_and_order_gives_the_same_numbers() {
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
            let (values, _) = read(&path).unwrap();
            assert_eq!(values.dim(), (3, 2), "{name}");
            assert_eq!(values.iter().copied().collect::<Vec<_>>(), want, "{name}");
            seen += 1;
        }
        assert!(seen >= 25, "{seen} files");
    }

    #[test]
    fn broken_files_have_specific_errors() {
        let whole =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/npy/lf4C.npy"))
                .unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let cut = parse(&whole[..whole.len() - 1]).err().unwrap();
        assert!(cut.contains("24") && cut.contains("23"), "{cut}");
        let long = parse(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f").err().unwrap();
        assert!(long.contains("header"), "{long}");
        assert!(parse(b"PK\x03\x04abcdefgh").err().unwrap().contains(".npy"));
        let nested = [&b"\x93NUMPY\x01\x00\x50\x00"[..], &[b'{'; 80]].concat();
        assert!(parse(&nested).err().unwrap().contains("header"));
    }

    #[test]
    fn half_precision() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 7), }";
        let values = [
            (0x3c00u16, 1.0),
            (0x3555, 0.333251953125),
            (0x0001, 2f64.powi(-24)),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0xfc00, f64::NEG_INFINITY),
            (0x7e00, f64::NAN),
        ];
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.bytes());
        file.extend(values.iter().flat_map(|(bits, _)| bits.to_le_bytes()));
        let read = parse(&file).unwrap().0;
        assert_eq!(read.dim(), (1, values.len()));
        for (got, (bits, want)) in read.iter().zip(values) {
            assert!(*got == want || got.is_nan() && want.is_nan(), "{bits:x}: {got}");
        }
    }
}
