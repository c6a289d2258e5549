//! CRC-32C, and guarded words, which carry their own check bits.

/// Returns the CRC-32C of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC-32C over more bytes.
pub fn crc_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The polynomial of CRC-32C, lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Multiplies two polynomials, modulo that of CRC-32C.
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

/// Returns the factor that moves a checksum `len` bytes ahead, as [`crc_join`] needs it.
pub(crate) const fn crc_shift(len: usize) -> u32 {
    // Start with x to the power of 8, and square it for each bit of the length.
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

/// Returns the CRC-32C of two byte strings together, from the checksum of each. `shift` is
/// [`crc_shift`] of the length of the second.
pub(crate) fn crc_join(first: u32, second: u32, shift: u32) -> u32 {
    product(shift, first) ^ second
}

/// Returns the FNV-1a hash (64 bit) of `bytes`. It identifies; it does not protect.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const VALUE_BITS: u32 = 48;

/// The largest value a guarded word can carry.
pub const GUARDED_MAX: u64 = (1 << VALUE_BITS) - 1;

/// Adds check bits to a value of at most 48 bits, so that a flipped bit is detected.
pub fn guard(value: u64) -> u64 {
    debug_assert!(value <= GUARDED_MAX);
    value | u64::from(crc(&value.to_le_bytes()) as u16) << VALUE_BITS
}

/// Returns the value of a guarded word, or `None` if its check bits do not agree.
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
