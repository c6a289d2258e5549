//! CRC-32C, and the words that carry their own check bits.

/// CRC-32C of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC-32C over more bytes.
pub fn crc_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The polynomial of CRC-32C, lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The product of two polynomials, modulo that of CRC-32C.
const fn product(a: u32, mut b: u32) -> u32 {
    let (mut sum, mut bit) = (0, 1 << 31);
    while bit > 0 {
        if a & bit > 0 {
            sum ^= b;
        }
        b = (b >> 1) ^ ((b & 1) * POLYNOMIAL);
        bit >>= 1;
    }
    sum
}

/// What makes the checksum of some bytes one of the same bytes with `len` zeros behind them, where
/// the checksum of what takes the zeros' place is then added; see [`crc_join`].
pub(crate) const fn crc_shift(len: usize) -> u32 {
    // x to the power of 8, squared for each bit of the length.
    let (mut shift, mut power, mut left) = (1 << 31, 1 << 23, len);
    while left > 0 {
        if left & 1 > 0 {
            shift = product(shift, power);
        }
        power = product(power, power);
        left >>= 1;
    }
    shift
}

/// CRC-32C of some bytes with others behind them, from that of either part and the shift by the
/// length of the second.
pub(crate) fn crc_join(first: u32, second: u32, shift: u32) -> u32 {
    product(shift, first) ^ second
}

/// FNV-1a (64 bit) of `bytes`: an identity, no protection.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const VALUE_BITS: u32 = 48;

/// The largest value a guarded word can carry.
pub const GUARDED_MAX: u64 = (1 << VALUE_BITS) - 1;

/// Puts check bits beside a value of at most 48 bits: a flipped bit is damage, never another value.
pub fn guard(value: u64) -> u64 {
    debug_assert!(value <= GUARDED_MAX);
    value | u64::from(crc(&value.to_le_bytes()) as u16) << VALUE_BITS
}

/// The value of a guarded word; `None` if its check bits do not agree.
pub fn unguard(word: u64) -> Option<u64> {
    let value = word & GUARDED_MAX;
    (guard(value) == word).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_checksums_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * i % 251) as u8).collect();
        for (first, len) in [(0, 0), (0, 7), (5, 0), (1, 1), (100, 4096), (904, 4096), (3, 4097)] {
            let (a, b) = (&bytes[..first], &bytes[first..first + len]);
            let joined = crc_join(crc(a), crc(b), crc_shift(len));
            assert_eq!(joined, crc(&bytes[..first + len]), "{first} and {len}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_guarded_word_is_seen() {
        for value in [0, 1, 4, 0x1234_5678_9abc, GUARDED_MAX] {
            let word = guard(value);
            assert_eq!(unguard(word), Some(value));
            for bit in 0..64 {
                assert_eq!(unguard(word ^ 1 << bit), None, "bit {bit} of {value:#x}");
            }
        }
        assert_eq!(unguard(0), None, "a page of zeros is not a value");
    }
}
