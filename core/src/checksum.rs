//! CRC-32C, and the words that carry their own check bits.

/// CRC-32C of `bytes`.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC-32C over more bytes.
pub fn crc_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
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
