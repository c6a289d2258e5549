//! Parses numbers: a fast reader for the forms that market data uses, an exact one for all others.
//!
//! The fast readers take a position in a buffer and stop at the first byte that cannot belong to
//! the number. They return `None` if they are not sure of the value. The exact readers take the
//! whole value.

use super::reject::Why;

/// The powers of ten that a `u64` can hold.
pub(crate) const POW10: [u64; 20] = {
    let mut table = [1; 20];
    let mut i = 1;
    while i < 20 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

/// Powers of ten, all exact as `f64`.
const FLOAT10: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19,
];

/// The most digits that cannot overflow a `u64`.
const SAFE_DIGITS: usize = 19;

/// Returns the eight bytes at `at`, the first in the lowest place.
#[inline(always)]
pub(crate) fn load8(b: &[u8], at: usize) -> Option<u64> {
    b.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Returns the value of eight digits, the first in the lowest byte, each 0 to 9.
#[inline(always)]
fn eight(x: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let x = x.wrapping_mul(10).wrapping_add(x >> 8);
    let high = (x & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((x >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// Reads a run of digits and returns its value and length. For a run of more than 19 digits the
/// length is 20 and the value is 0.
#[inline(always)]
fn digits(b: &[u8], at: usize) -> (u64, usize) {
    let (mut value, mut count) = (0u64, 0);
    while let Some(chunk) = load8(b, at + count) {
        let x = chunk ^ 0x3030_3030_3030_3030;
        // A carry changes only bytes after the first non-digit, which is the one searched for.
        let stops = (x.wrapping_add(0x7676_7676_7676_7676) | x) & 0x8080_8080_8080_8080;
        if stops == 0 {
            if count == 16 {
                return (0, SAFE_DIGITS + 1);
            }
            value = value * 100_000_000 + eight(x);
            count += 8;
            continue;
        }
        let n = (stops.trailing_zeros() / 8) as usize;
        if n == 0 {
            return (value, count);
        }
        if count + n > SAFE_DIGITS {
            return (0, SAFE_DIGITS + 1);
        }
        return (value * POW10[n] + eight(x << (64 - 8 * n)), count + n);
    }
    digits_slow(b, at, value, count)
}

/// Like [`digits`] near the end of the buffer, a byte at a time.
#[cold]
fn digits_slow(b: &[u8], at: usize, mut value: u64, mut count: usize) -> (u64, usize) {
    while let Some(digit) = b.get(at + count).map(|c| c.wrapping_sub(b'0')).filter(|&d| d < 10) {
        if count == SAFE_DIGITS {
            return (0, SAFE_DIGITS + 1);
        }
        value = value * 10 + u64::from(digit);
        count += 1;
    }
    (value, count)
}

/// Whether the number starts with a zero and more digits, which JSON forbids.
#[inline(always)]
fn leading_zero(b: &[u8], at: usize, count: usize) -> bool {
    count > 1 && b.get(at) == Some(&b'0')
}

/// Reads `[0-9]{1,19}` at `at` and returns the value and its end. `JSON` forbids leading zeros.
#[inline(always)]
pub(crate) fn fast_uint<const JSON: bool>(b: &[u8], at: usize) -> Option<(u64, usize)> {
    let (value, count) = digits(b, at);
    if count == 0 || count > SAFE_DIGITS || (JSON && leading_zero(b, at, count)) {
        return None;
    }
    Some((value, at + count))
}

/// Reads `[0-9]+(.[0-9]+)?` and scales it by 10^`scale`. Returns `None` if that is not exact.
#[inline(always)]
pub(crate) fn fast_scaled<const JSON: bool>(
    b: &[u8],
    at: usize,
    scale: usize,
) -> Option<(u64, usize)> {
    let (whole, end) = fast_uint::<JSON>(b, at)?;
    let whole = whole.checked_mul(*POW10.get(scale)?)?;
    if b.get(end) != Some(&b'.') {
        return Some((whole, end));
    }
    let (fraction, count) = digits(b, end + 1);
    if count == 0 || count > scale {
        return None;
    }
    Some((whole.checked_add(fraction * POW10[scale - count])?, end + 1 + count))
}

/// Reads `-?[0-9]+(.[0-9]+)?` as the nearest `f64`. Returns `None` if one division cannot give it.
#[inline(always)]
pub(crate) fn fast_float<const JSON: bool>(b: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = b.get(at) == Some(&b'-');
    let at = at + usize::from(negative);
    let (mut mantissa, mut end) = fast_uint::<JSON>(b, at)?;
    let mut scale = 1.0;
    if b.get(end) == Some(&b'.') {
        let (fraction, count) = digits(b, end + 1);
        if count == 0 || count > SAFE_DIGITS {
            return None;
        }
        mantissa = mantissa.checked_mul(POW10[count])?.checked_add(fraction)?;
        end += 1 + count;
        scale = FLOAT10[count];
    }
    // Both operands must be exact, so that the division rounds only once, to the nearest.
    if mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as i64 as f64 / scale;
    Some((if negative { -value } else { value }, end))
}

/// The parts of a number: `-?(digits(.digits?)?|.digits)(e[+-]?digits)?`.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: Option<i64>,
}

fn run(b: &[u8]) -> usize {
    b.iter().take_while(|c| c.is_ascii_digit()).count()
}

/// Splits a number. Returns `None` if the text has another form. An exponent beyond an `i64`
/// saturates.
fn parts(text: &[u8]) -> Option<Parts<'_>> {
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, rest) = rest.split_at(run(rest));
    let (fraction, rest) = match rest.strip_prefix(b".") {
        Some(rest) => rest.split_at(run(rest)),
        None => (&[][..], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => None,
        [b'e' | b'E', rest @ ..] => {
            let (sign, rest) = match rest {
                [b'-', rest @ ..] => (-1, rest),
                [b'+', rest @ ..] => (1, rest),
                _ => (1, rest),
            };
            if rest.is_empty() || run(rest) != rest.len() {
                return None;
            }
            let size = rest
                .iter()
                .fold(0i64, |e, c| e.saturating_mul(10).saturating_add(i64::from(c - b'0')));
            Some(sign * size)
        }
        _ => return None,
    };
    Some(Parts { negative, whole, fraction, exponent })
}

/// Reads `-?[0-9]+` and returns whether it is negative and its magnitude.
pub(crate) fn integer(text: &[u8]) -> Result<(bool, u64), Why> {
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() || run(rest) != rest.len() {
        return Err(Why::Not("an integer"));
    }
    let mut value = 0u64;
    for c in rest {
        let digit = u64::from(c - b'0');
        value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(Why::Range)?;
    }
    Ok((negative, value))
}

/// Reads a number scaled by 10^`shift`, exactly, and returns whether it is negative and its
/// magnitude. Digits after the last place kept must be zeros, unless `truncate` drops them.
pub(crate) fn scaled(text: &[u8], shift: i64, truncate: bool) -> Result<(bool, u64), Why> {
    let parts = parts(text).ok_or(Why::Not("a number"))?;
    let all = || parts.whole.iter().chain(parts.fraction).map(|c| c - b'0');
    let total = parts.whole.len() + parts.fraction.len();
    let power = shift
        .saturating_add(parts.exponent.unwrap_or(0))
        .saturating_sub(i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX));
    let dropped = usize::try_from(power.saturating_neg()).unwrap_or(0).min(total);
    let kept = total - dropped;
    if !truncate && all().skip(kept).any(|digit| digit != 0) {
        return Err(Why::Finer(shift.clamp(0, 18) as u8));
    }
    let mut value = 0u64;
    for digit in all().take(kept) {
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit)))
            .ok_or(Why::Range)?;
    }
    if value != 0 {
        for _ in 0..power.max(0) {
            value = value.checked_mul(10).ok_or(Why::Range)?;
        }
    }
    Ok((parts.negative, value))
}

/// Checks the form of a float and returns its text and whether it is nonzero.
fn float_form(text: &[u8]) -> Result<(&str, bool), Why> {
    let parts = parts(text).ok_or(Why::Not("a number"))?;
    let nonzero = parts.whole.iter().chain(parts.fraction).any(|&c| c != b'0');
    let text = std::str::from_utf8(text).map_err(|_| Why::Not("a number"))?;
    Ok((text, nonzero))
}

const UNDERFLOW: Why = Why::Said(std::borrow::Cow::Borrowed("is too small: it would become 0"));

/// Reads the nearest `f64`. Overflow is an error, and so is a nonzero text that would become 0.
pub(crate) fn float64(text: &[u8]) -> Result<f64, Why> {
    let value = match text {
        b"NaN" | b"nan" => return Ok(f64::NAN),
        b"inf" | b"Infinity" => return Ok(f64::INFINITY),
        b"-inf" | b"-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {
            let (text, nonzero) = float_form(text)?;
            let value: f64 = text.parse().map_err(|_| Why::Not("a number"))?;
            if nonzero && value == 0.0 {
                return Err(UNDERFLOW);
            }
            value
        }
    };
    if value.is_infinite() { Err(Why::Range) } else { Ok(value) }
}

/// Reads the nearest `f32`, in one rounding, with the errors of [`float64`].
pub(crate) fn float32(text: &[u8]) -> Result<f32, Why> {
    let value = match text {
        b"NaN" | b"nan" => return Ok(f32::NAN),
        b"inf" | b"Infinity" => return Ok(f32::INFINITY),
        b"-inf" | b"-Infinity" => return Ok(f32::NEG_INFINITY),
        _ => {
            let (text, nonzero) = float_form(text)?;
            let value: f32 = text.parse().map_err(|_| Why::Not("a number"))?;
            if nonzero && value == 0.0 {
                return Err(UNDERFLOW);
            }
            value
        }
    };
    if value.is_infinite() { Err(Why::Range) } else { Ok(value) }
}

/// Whether `text` is a number as JSON writes it.
pub(crate) fn is_json_number(text: &[u8]) -> bool {
    let Some(parts) = parts(text) else { return false };
    let point = text.contains(&b'.');
    !parts.whole.is_empty()
        && (parts.whole.len() == 1 || parts.whole[0] != b'0')
        && point != parts.fraction.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_are_exact_to_64_bits() {
        assert_eq!(integer(b"18446744073709551615"), Ok((false, u64::MAX)));
        assert_eq!(integer(b"18446744073709551616"), Err(Why::Range));
        assert_eq!(integer(b"-0"), Ok((true, 0)));
        assert_eq!(integer(b"0007"), Ok((false, 7)));
        for bad in ["", "-", "+1", "1.0", "1e3", " 1", "0x1"] {
            assert_eq!(integer(bad.as_bytes()), Err(Why::Not("an integer")), "{bad:?}");
        }
    }

    #[test]
    fn scaled_is_exact_or_an_error() {
        let at = |text: &str, scale| scaled(text.as_bytes(), scale, false);
        assert_eq!(at("1.230", 2), Ok((false, 123)));
        assert_eq!(at("1.234", 2), Err(Why::Finer(2)));
        assert_eq!(at("1e-8", 8), Ok((false, 1)));
        assert_eq!(at("1e-9", 8), Err(Why::Finer(8)));
        assert_eq!(at("-12e1", 0), Ok((true, 120)));
        assert_eq!(at("1e30", 0), Err(Why::Range));
        assert_eq!(at("0e99999999999999999999", 0), Ok((false, 0)));
        assert_eq!(at("0e-99999999999999999999", 0), Ok((false, 0)));
        assert_eq!(at("1e-99999999999999999999", 0), Err(Why::Finer(0)));
        assert_eq!(at(".5", 1), Ok((false, 5)));
        assert_eq!(at("5.", 1), Ok((false, 50)));
        assert_eq!(at(".", 1), Err(Why::Not("a number")));
        assert_eq!(at("1500", -3), Err(Why::Finer(0)));
        assert_eq!(scaled(b"1500", -3, true), Ok((false, 1)));
        assert_eq!(scaled(b"-1.5", 0, true), Ok((true, 1)));
    }

    #[test]
    fn extreme_floats_are_exact_or_errors() {
        assert_eq!(float64(b"1e400"), Err(Why::Range));
        assert_eq!(float64(b"1e-400"), Err(UNDERFLOW));
        assert_eq!(float64(b"5e-324").unwrap().to_bits(), 1);
        assert_eq!(float64(b"-0").unwrap().to_bits(), (-0.0f64).to_bits());
        assert_eq!(float32(b"1e39"), Err(Why::Range));
        assert_eq!(float32(b"1e-60"), Err(UNDERFLOW));
        // Rounding to f64 first and then to f32 would give the neighbour.
        assert_eq!(float32(b"1.00000005960464477540").unwrap().to_bits(), 0x3f80_0001);
        for bad in ["", "+1", "1e", "e5", "infinity", "-NaN", "1_0", "0x10", "1 "] {
            assert_eq!(float64(bad.as_bytes()), Err(Why::Not("a number")), "{bad:?}");
        }
    }

    #[test]
    fn json_number_syntax_is_checked() {
        for good in ["0", "-0", "10", "1.5", "1e5", "-1.5E+5", "0.0"] {
            assert!(is_json_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "01", "-01", ".5", "5.", "5.e1", "+1", "1e", "--1", "NaN"] {
            assert!(!is_json_number(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn fast_readers_agree_with_exact_ones(
            text in "-?[0-9]{0,21}(\\.[0-9]{0,20})?",
            tail in "[,}e\n ]?[0-9a,]{0,9}",
            scale in 0usize..=18,
        ) {
            let mut b = text.clone().into_bytes();
            let stop = if tail.starts_with(|c: char| c.is_ascii_digit()) { "," } else { "" };
            b.extend_from_slice(stop.as_bytes());
            b.extend_from_slice(tail.as_bytes());
            if let Some((v, end)) = fast_float::<false>(&b, 0) {
                prop_assert_eq!(end, text.len());
                prop_assert_eq!(v.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
            if let Some((v, end)) = fast_float::<true>(&b, 0) {
                prop_assert_eq!(v.to_bits(), text.parse::<f64>().unwrap().to_bits());
                prop_assert!(is_json_number(&b[..end]));
            }
            if let Some((v, end)) = fast_uint::<false>(&b, 0) {
                prop_assert_eq!(Ok((false, v)), integer(&b[..end]));
            }
            if let Some((v, end)) = fast_scaled::<false>(&b, 0, scale) {
                prop_assert_eq!(Ok((false, v)), scaled(&b[..end], scale as i64, false));
            }
        }
    }

    #[test]
    fn the_fast_readers_take_ordinary_numbers() {
        assert_eq!(fast_uint::<false>(b"1763740800000000,1", 0), Some((1763740800000000, 16)));
        assert_eq!(
            fast_uint::<false>(b"9999999999999999999\n", 0),
            Some((9999999999999999999, 19))
        );
        assert_eq!(fast_uint::<false>(b"18446744073709551615\n", 0), None);
        assert_eq!(fast_float::<true>(b"84123.57,\"size\"", 0), Some((84123.57, 8)));
        assert_eq!(fast_float::<true>(b"01.5,\"size\":1", 0), None);
        assert_eq!(fast_scaled::<true>(b"43.142,1291", 0, 6), Some((43_142_000, 6)));
    }
}
