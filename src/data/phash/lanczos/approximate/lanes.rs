//! Sixteen rows side by side in the processor's vectors: AVX-512 has one for all of them, AVX2 two.

use std::arch::x86_64::{__m256i, __m512i};

use pulp::{
    bytemuck::Pod,
    cast,
    x86::{V3, V4},
};

/// Rows that are resized at a time.
pub const ROWS: usize = 16;
/// Bytes of a row that are taken at a time.
pub const STEP: usize = 64;

/// What resizing needs of a processor. A vector holds 32 bits of each of [`ROWS`] rows.
pub trait Lanes: Copy {
    type Vector: Pod;

    /// Vector q of the result has bytes 4 q to 4 q + 3 of each row.
    fn transposed(self, rows: &[[u8; STEP]; ROWS]) -> [Self::Vector; STEP / 4];

    /// Of four bytes a row, the even ones and the odd ones, each as two 16-bit numbers.
    fn split(self, bytes: Self::Vector) -> [Self::Vector; 2];

    /// `sum + a[0] * b[0] + a[1] * b[1]` of each row, where `b` has the same two 16-bit numbers for
    /// all.
    fn add_products(self, sum: Self::Vector, a: Self::Vector, b: i32) -> Self::Vector;
}

impl Lanes for V4 {
    type Vector = __m512i;

    #[inline(always)]
    fn transposed(self, rows: &[[u8; STEP]; ROWS]) -> [__m512i; STEP / 4] {
        let (f, rows): (_, [__m512i; ROWS]) = (self.avx512f, cast(*rows));
        let (mut pairs, mut fours, mut out) = (rows, rows, rows);
        for i in (0..ROWS).step_by(2) {
            pairs[i] = f._mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            pairs[i + 1] = f._mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        // At i + c, of the rows i to i + 3: columns c, c + 4, c + 8 and c + 12.
        for i in (0..ROWS).step_by(4) {
            for c in [0, 2] {
                fours[i + c] = f._mm512_unpacklo_epi64(pairs[i + c / 2], pairs[i + c / 2 + 2]);
                fours[i + c + 1] = f._mm512_unpackhi_epi64(pairs[i + c / 2], pairs[i + c / 2 + 2]);
            }
        }
        for c in 0..4 {
            let (a, b, d, e) = (fours[c], fours[4 + c], fours[8 + c], fours[12 + c]);
            let (even, even_below) =
                (f._mm512_shuffle_i32x4::<0x88>(a, b), f._mm512_shuffle_i32x4::<0x88>(d, e));
            let (odd, odd_below) =
                (f._mm512_shuffle_i32x4::<0xdd>(a, b), f._mm512_shuffle_i32x4::<0xdd>(d, e));
            out[c] = f._mm512_shuffle_i32x4::<0x88>(even, even_below);
            out[c + 4] = f._mm512_shuffle_i32x4::<0x88>(odd, odd_below);
            out[c + 8] = f._mm512_shuffle_i32x4::<0xdd>(even, even_below);
            out[c + 12] = f._mm512_shuffle_i32x4::<0xdd>(odd, odd_below);
        }
        out
    }

    #[inline(always)]
    fn split(self, bytes: __m512i) -> [__m512i; 2] {
        [
            self.avx512f._mm512_and_si512(bytes, self.avx512f._mm512_set1_epi16(0xff)),
            self.avx512bw._mm512_srli_epi16::<8>(bytes),
        ]
    }

    #[inline(always)]
    fn add_products(self, sum: __m512i, a: __m512i, b: i32) -> __m512i {
        self.avx512f._mm512_add_epi32(
            sum,
            self.avx512bw._mm512_madd_epi16(a, self.avx512f._mm512_set1_epi32(b)),
        )
    }
}

impl Lanes for V3 {
    /// Rows 0 to 7 and 8 to 15.
    type Vector = [__m256i; 2];

    #[inline(always)]
    fn transposed(self, rows: &[[u8; STEP]; ROWS]) -> [[__m256i; 2]; STEP / 4] {
        // By row, bytes 0 to 31 and 32 to 63.
        let (f, rows): (_, [[__m256i; 2]; ROWS]) = (self.avx2, cast(*rows));
        let mut out = rows;
        for (below, part) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            // At i + c, of four of eight rows, i / 4 the upper or the lower ones: columns c and c +
            // 4.
            let mut fours = [rows[0][0]; 8];
            for i in [0, 4] {
                let at = 8 * below + i;
                let (a, b, c, d) =
                    (rows[at][part], rows[at + 1][part], rows[at + 2][part], rows[at + 3][part]);
                let (low, low_too) = (f._mm256_unpacklo_epi32(a, b), f._mm256_unpacklo_epi32(c, d));
                let (high, high_too) =
                    (f._mm256_unpackhi_epi32(a, b), f._mm256_unpackhi_epi32(c, d));
                fours[i] = f._mm256_unpacklo_epi64(low, low_too);
                fours[i + 1] = f._mm256_unpackhi_epi64(low, low_too);
                fours[i + 2] = f._mm256_unpacklo_epi64(high, high_too);
                fours[i + 3] = f._mm256_unpackhi_epi64(high, high_too);
            }
            for c in 0..4 {
                out[8 * part + c][below] =
                    f._mm256_permute2x128_si256::<0x20>(fours[c], fours[4 + c]);
                out[8 * part + c + 4][below] =
                    f._mm256_permute2x128_si256::<0x31>(fours[c], fours[4 + c]);
            }
        }
        out
    }

    #[inline(always)]
    fn split(self, bytes: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        let (f, [a, b], even) = (self.avx2, bytes, self.avx._mm256_set1_epi16(0xff));
        [
            [f._mm256_and_si256(a, even), f._mm256_and_si256(b, even)],
            [f._mm256_srli_epi16::<8>(a), f._mm256_srli_epi16::<8>(b)],
        ]
    }

    #[inline(always)]
    fn add_products(self, sum: [__m256i; 2], a: [__m256i; 2], b: i32) -> [__m256i; 2] {
        let (f, b) = (self.avx2, self.avx._mm256_set1_epi32(b));
        [
            f._mm256_add_epi32(sum[0], f._mm256_madd_epi16(a[0], b)),
            f._mm256_add_epi32(sum[1], f._mm256_madd_epi16(a[1], b)),
        ]
    }
}
