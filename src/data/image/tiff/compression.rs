//! How a TIFF may be compressed.

use super::fault::not_read;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Lzw,
    Deflate,
    Jpeg,
    PackBits,
    Zstd,
}

impl Compression {
    /// By its number in the file.
    pub fn of(code: u64) -> Result<Self, String> {
        let name = match code {
            1 => return Ok(Self::None),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg),
            8 | 32946 => return Ok(Self::Deflate),
            32773 => return Ok(Self::PackBits),
            50000 => return Ok(Self::Zstd),
            2 | 3 | 4 | 32771 => "CCITT fax coding",
            6 => "old-style JPEG",
            9 | 10 | 34661 => "JBIG",
            22610 | 34934 => "JPEG XR",
            32766 => "NeXT's coding",
            32809 => "ThunderScan",
            32908 | 32909 => "Pixar's coding",
            33003 | 33004 | 33005 | 33007 | 34712 => "JPEG 2000",
            34676 | 34677 => "SGI's LogLuv",
            34887 => "LERC",
            34892 => "lossy JPEG of DNG",
            34925 => "LZMA",
            34926 => "an old kind of zstd",
            34927 | 50001 => "WebP",
            34933 => "PNG",
            50002 | 52546 => "JPEG XL",
            _ => return Err(not_read(format!("with compression {code}"))),
        };
        Err(not_read(format!("compressed with {name}")))
    }
}
