//! Reads and writes structures of the format, as constant offsets into byte arrays.

/// Declares consecutive fields, each as `NAME: size`, as offset constants from a start, and asserts
/// where the last one ends.
macro_rules! offsets {
    ($($(#[$doc:meta])* [$start:expr] { $($name:ident: $size:expr),* $(,)? } = $end:expr;)*) => {
        $(offsets!(@next $start, $end; $($name: $size,)*);)*
    };
    (@next $at:expr, $end:expr; $name:ident: $size:expr, $($rest:tt)*) => {
        #[allow(dead_code)]
        pub(crate) const $name: usize = $at;
        offsets!(@next $at + $size, $end; $($rest)*);
    };
    (@next $at:expr, $end:expr;) => {
        const _: () = assert!($at == $end);
    };
}
pub(crate) use offsets;

/// Returns the `u32` at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Returns the `u64` at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Returns the 16 bytes at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn get_id(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}

/// Stores a `u32` at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Stores a `u64` at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Stores bytes at `at`.
///
/// # Panics
/// If `bytes` is too short.
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
