//! Gzipped data as `gunzip` reads it: several members one after the other (bgzip, pigz, `cat`), and
//! zeros after a member (tapes, block devices).

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Inflates what `R` reads.
pub enum Gunzip<R> {
    Member(Box<GzDecoder<R>>),
    /// After the last member.
    End {
        /// Whether something else than a member or zeros follows; it is not read.
        rubbish: bool,
    },
}

impl<R: BufRead> Gunzip<R> {
    pub fn new(packed: R) -> Self {
        Self::Member(Box::new(GzDecoder::new(packed)))
    }

    /// What follows a member.
    fn after(mut packed: R) -> io::Result<Self> {
        loop {
            let more = match packed.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                more => more?,
            };
            let zeros = more.iter().take_while(|&&byte| byte == 0).count();
            match more.get(zeros) {
                Some(0x1f) => {
                    packed.consume(zeros);
                    return Ok(Self::new(packed));
                }
                Some(_) => return Ok(Self::End { rubbish: true }),
                None if zeros == 0 => return Ok(Self::End { rubbish: false }),
                None => packed.consume(zeros),
            }
        }
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let (Self::Member(member), false) = (&mut *self, buffer.is_empty()) {
            match member.read(buffer)? {
                0 => {
                    let end = Self::End { rubbish: false };
                    if let Self::Member(member) = std::mem::replace(self, end) {
                        *self = Self::after(member.into_inner())?;
                    }
                }
                n => return Ok(n),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(text).unwrap();
        gz.finish().unwrap()
    }

    /// The text, and whether rubbish follows; read through buffers of all small sizes, so that
    /// members and zeros begin anywhere in them.
    fn inflated(packed: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let all = (1..50).chain([1 << 16]).map(|capacity| {
            let mut text = Vec::new();
            let mut gunzip = Gunzip::new(BufReader::with_capacity(capacity, packed));
            gunzip.read_to_end(&mut text)?;
            Ok((text, matches!(gunzip, Gunzip::End { rubbish: true })))
        });
        let all: Vec<_> = all.collect::<io::Result<_>>()?;
        assert!(all.iter().all(|one| *one == all[0]));
        Ok(all[0].clone())
    }

    #[test]
    fn members_and_zeros_are_read_as_by_gunzip() {
        let (a, b, none) = (gz(b"first "), gz(b"second"), gz(b""));
        let zeros = [0; 700];
        for (packed, want, rubbish) in [
            (a.clone(), "first ", false),
            ([&a[..], &b].concat(), "first second", false),
            ([&a[..], &none, &none, &b, &none].concat(), "first second", false),
            ([&a[..], &zeros].concat(), "first ", false),
            ([&a[..], &zeros, &b, &zeros].concat(), "first second", false),
            ([&a[..], b"<html>"].concat(), "first ", true),
            ([&a[..], &zeros, b"x"].concat(), "first ", true),
        ] {
            assert_eq!(inflated(&packed).unwrap(), (want.into(), rubbish));
        }
        for broken in [&a[..a.len() - 1], &[&a[..], &b[..5]].concat(), &[&a[..], b"\x1f"].concat()]
        {
            inflated(broken).unwrap_err();
        }
        let mut changed = a.clone();
        changed[a.len() - 8] ^= 1; // the checksum
        inflated(&[&changed[..], &b].concat()).unwrap_err();
        inflated(b"").unwrap_err();
    }
}
