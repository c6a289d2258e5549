//! Writes numbers and times as text into a window of bytes.
//!
//! Every `put_*` writes its text at position `at` of a window and returns the position after it.
//! They store whole words, which may overwrite bytes after the text. A window has room for a lead
//! of 31 bytes, the widest time, and the words stored past it.
//!
//! The size of a window is a constant, so the compiler proves most stores in bounds. One check a
//! value is left: where the window is taken from the output. That makes safe code as fast as
//! pointers.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::time::TimeUnit;

/// Room for one value and the bytes before it.
pub(super) type Window = [u8; WINDOW];
/// Size of a [`Window`].
pub(super) const WINDOW: usize = 128;
/// The last position in a window at which a value may begin. All bits are ones, so it is also a
/// mask.
pub(super) const LEAD: usize = 31;

/// The widest integer: `-9223372036854775808` or 20 digits.
pub(super) const INT_WIDTH: usize = 20;
/// Upper bound for a float: zmij writes at most 24 bytes.
pub(super) const FLOAT_WIDTH: usize = 26;
/// The widest decimal: sign, point, 19 digits and a leading zero.
pub(super) const DECIMAL_WIDTH: usize = 22;
/// The widest time: `2025-11-21T16:00:00.000000000+00:00`.
pub(super) const TIME_WIDTH: usize = 35;

// A window holds the widest text and the words stored past it.
const _: () = assert!(LEAD + TIME_WIDTH + 16 <= WINDOW);

const E8: u64 = 100_000_000;
const E16: u64 = E8 * E8;
const ASCII: u64 = u64::from_le_bytes([b'0'; 8]);

/// Returns the window of `slab` at `at`.
///
/// # Panics
/// If `slab` ends before the window does.
#[inline(always)]
pub(super) fn window(slab: &mut [u8], at: usize) -> &mut Window {
    match slab.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        Some(window) => window,
        None => too_narrow(),
    }
}

#[cold]
fn too_narrow() -> ! {
    panic!("a slab is narrower than the widest row")
}

/// Stores `bytes` at `at`.
#[inline(always)]
pub(super) fn put<const N: usize>(window: &mut Window, at: usize, bytes: &[u8; N]) {
    window[at..at + N].copy_from_slice(bytes);
}

/// Stores a text of any length at `at` and returns the position after it.
#[inline]
pub(super) fn put_slice(slab: &mut [u8], at: usize, text: &[u8]) -> usize {
    slab[at..at + text.len()].copy_from_slice(text);
    at + text.len()
}

/// Returns the eight decimal digits of `value` (below 10^8) as byte values 0 to 9, the first digit
/// in the lowest byte. Each step splits all parts of the number at once, side by side in one word.
#[inline(always)]
fn digits8(value: u64) -> u64 {
    let high = value / 10_000;
    let fours = high | (value - high * 10_000) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - hundreds * 100) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - tens * 10) << 8
}

/// Writes eight digits of `value` (below 10^8), with leading zeros.
#[inline(always)]
fn put_eight(window: &mut Window, at: usize, value: u64) -> usize {
    put(window, at, &(digits8(value) | ASCII).to_le_bytes());
    at + 8
}

/// Writes `value` (below 10^8) without leading zeros.
#[inline(always)]
fn put_short(window: &mut Window, at: usize, value: u64) -> usize {
    let digits = digits8(value);
    // The bit set in the last digit's byte keeps one digit of a zero.
    let zeros = (digits | 1 << 63).trailing_zeros() as usize / 8;
    put(window, at, &((digits | ASCII) >> (8 * zeros)).to_le_bytes());
    at + 8 - zeros
}

/// Writes an unsigned integer.
#[inline(always)]
pub(super) fn put_u64(window: &mut Window, at: usize, value: u64) -> usize {
    if value < E8 {
        return put_short(window, at, value);
    }
    let (high, low) = (value / E8, value % E8);
    let at = if high < E8 {
        put_short(window, at, high)
    } else {
        let at = put_short(window, at, value / E16);
        put_eight(window, at, high % E8)
    };
    put_eight(window, at, low)
}

/// Writes a minus sign if `negative`.
#[inline(always)]
fn put_sign(window: &mut Window, at: usize, negative: bool) -> usize {
    window[at] = b'-';
    at + usize::from(negative)
}

/// Writes a signed integer.
#[inline(always)]
pub(super) fn put_i64(window: &mut Window, at: usize, value: i64) -> usize {
    let at = put_sign(window, at, value < 0);
    put_u64(window, at, value.unsigned_abs())
}

/// Writes a point and the fraction `value` (below 10^8, in units of 10^-8) without trailing zeros,
/// but with at least one digit.
#[inline(always)]
fn put_fraction8(window: &mut Window, at: usize, value: u64) -> usize {
    let digits = digits8(value);
    window[at] = b'.';
    put(window, at + 1, &(digits | ASCII).to_le_bytes());
    // The bit set in the first digit's byte keeps one digit of a zero.
    at + 9 - (digits | 1).leading_zeros() as usize / 8
}

/// Writes a float in its shortest form that reads back as the same bits: `1.0`, `0.00012`, `-0.0`,
/// `1e+300`. NaN and infinities are `NaN inf -inf`, in JSON `null "inf" "-inf"`.
///
/// Most market data has eight decimals or fewer, and such numbers need no general algorithm. Let
/// `m` be the float times 10^8, rounded, and below 10^15. Then `m` and 10^8 are exact as doubles.
/// If their correctly rounded quotient equals the float, the decimal `m` x 10^-8 reads back as this
/// float. No other decimal of 15 digits or fewer does, because binary64 keeps 15 digits apart. So
/// `m` x 10^-8 without trailing zeros is the shortest form, the one zmij would find.
#[inline(always)]
pub(super) fn put_f64(window: &mut Window, at: usize, value: f64, json: bool) -> usize {
    /// Adding 2^52 leaves no bits for a fraction. It rounds the sum to an integer, which is then in
    /// its low 52 bits.
    const ROUND: f64 = (1u64 << 52) as f64;
    let magnitude = value.abs();
    let sum = magnitude * 1e8 + ROUND;
    if magnitude < 1e7 && (sum - ROUND) / 1e8 == magnitude {
        let scaled = sum.to_bits() & ((1 << 52) - 1);
        let at = put_sign(window, at, value.is_sign_negative());
        let at = put_short(window, at, scaled / E8);
        return put_fraction8(window, at, scaled % E8);
    }
    put_f64_general(window, at, value, json)
}

#[inline(never)]
fn put_f64_general(window: &mut Window, at: usize, value: f64, json: bool) -> usize {
    if !value.is_finite() {
        return put_not_finite(window, at, value, json);
    }
    put_slice(window, at, zmij::Buffer::new().format_finite(value).as_bytes())
}

/// Like [`put_f64`], for the shortest form that reads back as the same binary32.
#[inline(never)]
pub(super) fn put_f32(window: &mut Window, at: usize, value: f32, json: bool) -> usize {
    if !value.is_finite() {
        return put_not_finite(window, at, f64::from(value), json);
    }
    put_slice(window, at, zmij::Buffer::new().format_finite(value).as_bytes())
}

fn put_not_finite(window: &mut Window, at: usize, value: f64, json: bool) -> usize {
    let text = match (json, value.is_nan(), value > 0.0) {
        (true, true, _) => "null",
        (true, _, true) => "\"inf\"",
        (true, _, false) => "\"-inf\"",
        (false, true, _) => "NaN",
        (false, _, true) => "inf",
        (false, _, false) => "-inf",
    };
    put_slice(window, at, text.as_bytes())
}

const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Writes `value` x 10^-`scale` (0 to 18), exactly. It looks like a float: trailing zeros trimmed,
/// at least one digit after the point. With scale 0 it is an integer.
#[inline]
pub(super) fn put_decimal(window: &mut Window, at: usize, value: i64, scale: u8) -> usize {
    let scale = usize::from(scale);
    if scale == 0 {
        return put_i64(window, at, value);
    }
    let magnitude = value.unsigned_abs();
    let at = put_sign(window, at, value < 0);
    if scale <= 8 {
        // Use units of 10^-8 where they fit: a multiplication costs less than a division.
        let power = POWERS[8 - scale];
        let (whole, fraction) = match magnitude.checked_mul(power) {
            Some(scaled) => (scaled / E8, scaled % E8),
            None => (magnitude / POWERS[scale], magnitude % POWERS[scale] * power),
        };
        let at = put_u64(window, at, whole);
        return put_fraction8(window, at, fraction);
    }
    let at = put_u64(window, at, magnitude / POWERS[scale]);
    let fraction = magnitude % POWERS[scale];
    // Write eighteen digits (eight, eight and two), then drop the trailing zeros.
    let fraction = fraction * POWERS[18 - scale];
    window[at] = b'.';
    let first = at + 1;
    put_eight(window, first, fraction / 10_000_000_000);
    put_eight(window, first + 8, fraction / 100 % E8);
    put(window, first + 16, &pair(fraction % 100));
    let mut end = first + 18;
    while end > first + 1 && window[end - 1] == b'0' {
        end -= 1;
    }
    end
}

/// Returns two digits; `value` is below 100.
#[inline(always)]
fn pair(value: u64) -> [u8; 2] {
    [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]
}

/// Returns year, month and day of a day counted from 1970-01-01 (Howard Hinnant's
/// `civil_from_days`). Years begin in March here, so that a leap day is the last day of its year.
fn civil(days: i64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u64, month as u64, day as u64)
}

/// Writes times as RFC 3339 in one zone: `2025-11-21T16:00:00.000000Z`, with six fraction digits if
/// the unit is microseconds, nine if it is nanoseconds.
#[derive(Clone, Debug)]
pub struct Clock {
    unit: TimeUnit,
    /// The zone, unless it is UTC.
    zone: Option<TimeZone>,
    /// `offset` holds for the seconds since the epoch from `from` up to but not including `until`.
    /// The zone's rules are looked up only once between two transitions.
    from: i64,
    until: i64,
    offset: i64,
}

impl Clock {
    /// Makes a clock for times in `unit`.
    pub fn new(unit: TimeUnit, zone: &TimeZone) -> Clock {
        let utc = *zone == TimeZone::UTC;
        let zone = (!utc).then(|| zone.clone());
        let (from, until) = if utc { (0, i64::MAX) } else { (0, 0) };
        Clock { unit, zone, from, until, offset: 0 }
    }

    /// Writes the time `ticks`. RFC 3339 has no years after 9999, which only microseconds can
    /// reach. Such a time is written as the raw integer, which reads back too.
    #[inline]
    pub(super) fn put(&mut self, window: &mut Window, at: usize, ticks: u64) -> usize {
        let (seconds, fraction) = match self.unit {
            TimeUnit::Micros => (ticks / 1_000_000, ticks % 1_000_000),
            TimeUnit::Nanos => (ticks / 1_000_000_000, ticks % 1_000_000_000),
        };
        let seconds = seconds as i64;
        if seconds > Timestamp::MAX.as_second() {
            return put_u64(window, at, ticks);
        }
        if seconds < self.from || seconds >= self.until {
            self.look_up(seconds);
        }
        // RFC 3339 has no seconds in an offset. Times of the few zones that had them are shown in
        // UTC.
        let whole = self.offset % 60 == 0;
        let offset = if whole { self.offset } else { 0 };
        let at = put_date_time(window, at, seconds + offset);
        let at = put_ticks(window, at, fraction, self.unit);
        if self.zone.is_none() || !whole {
            window[at] = b'Z';
            return at + 1;
        }
        let minutes = offset.unsigned_abs() / 60;
        let [h1, h0] = pair(minutes / 60);
        let [m1, m0] = pair(minutes % 60);
        let sign = if offset < 0 { b'-' } else { b'+' };
        put(window, at, &[sign, h1, h0, b':', m1, m0]);
        at + 6
    }

    #[cold]
    fn look_up(&mut self, seconds: i64) {
        (self.from, self.until, self.offset) = (seconds, seconds + 1, 0);
        let (Some(zone), Ok(instant)) = (&self.zone, Timestamp::from_second(seconds)) else {
            return;
        };
        self.offset = i64::from(zone.to_offset(instant).seconds());
        self.until =
            zone.following(instant).next().map_or(i64::MAX, |next| next.timestamp().as_second());
        // Ask a second later, so that a transition at this very second counts as preceding.
        if let Ok(later) = Timestamp::from_second(seconds + 1) {
            self.from =
                zone.preceding(later).next().map_or(i64::MIN, |last| last.timestamp().as_second());
        }
    }
}

/// Returns one time as text, as [`Clock`] writes it.
pub fn time_text(unit: TimeUnit, zone: &TimeZone, ticks: u64) -> String {
    let mut window = [0; WINDOW];
    let end = Clock::new(unit, zone).put(&mut window, 0, ticks);
    String::from_utf8_lossy(&window[..end]).into_owned()
}

/// Writes the local second `seconds` as `2025-11-21T16:00:00`.
#[inline]
fn put_date_time(window: &mut Window, at: usize, seconds: i64) -> usize {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400) as u64;
    let ([y3, y2], [y1, y0]) = (pair(year / 100), pair(year % 100));
    let ([mo1, mo0], [d1, d0]) = (pair(month), pair(day));
    let ([h1, h0], [mi1, mi0]) = (pair(second / 3600), pair(second / 60 % 60));
    let [s1, s0] = pair(second % 60);
    let text =
        [y3, y2, y1, y0, b'-', mo1, mo0, b'-', d1, d0, b'T', h1, h0, b':', mi1, mi0, b':', s1, s0];
    put(window, at, &text);
    at + text.len()
}

/// Writes a point and all digits of the fraction of a second.
#[inline]
fn put_ticks(window: &mut Window, at: usize, fraction: u64, unit: TimeUnit) -> usize {
    window[at] = b'.';
    match unit {
        TimeUnit::Micros => {
            put_eight(window, at + 1, fraction * 100);
            at + 7
        }
        TimeUnit::Nanos => {
            put_eight(window, at + 1, fraction / 10);
            window[at + 9] = b'0' + (fraction % 10) as u8;
            at + 10
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text(width: usize, put: impl FnOnce(&mut Window) -> usize) -> String {
        let mut window = [b'?'; WINDOW];
        let end = put(&mut window);
        assert!(end <= width, "{end} bytes, {width} allowed");
        String::from_utf8(window[..end].to_vec()).unwrap()
    }

    fn float(value: f64) -> String {
        text(FLOAT_WIDTH, |window| put_f64(window, 0, value, false))
    }

    fn time(unit: TimeUnit, zone: &str, ticks: u64) -> String {
        let text = time_text(unit, &TimeZone::get(zone).unwrap(), ticks);
        assert!(text.len() <= TIME_WIDTH);
        text
    }

    fn decimal(value: i64, scale: u8) -> String {
        text(DECIMAL_WIDTH, |window| put_decimal(window, 0, value, scale))
    }

    #[test]
    fn integers_of_every_length_match_display() {
        let mut value = 1u64;
        for _ in 0..64 {
            for v in [value, value - 1, value.wrapping_add(1), !value] {
                assert_eq!(text(INT_WIDTH, |s| put_u64(s, 0, v)), v.to_string());
                let v = v as i64;
                assert_eq!(text(INT_WIDTH, |s| put_i64(s, 0, v)), v.to_string());
            }
            value = value.wrapping_mul(2);
        }
        for v in POWERS.iter().flat_map(|p| [p - 1, *p, p + 1]) {
            assert_eq!(text(INT_WIDTH, |s| put_u64(s, 0, v)), v.to_string());
        }
    }

    #[test]
    fn eight_digit_numbers_match_display() {
        for v in (0..E8).step_by(997) {
            let digits = (digits8(v) | ASCII).to_le_bytes();
            assert_eq!(std::str::from_utf8(&digits).unwrap(), format!("{v:08}"));
        }
    }

    #[test]
    fn every_float_has_one_form() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-84123.57, "-84123.57"),
            (1e-8, "0.00000001"),
            (1.5e-8, "1.5e-8"),
            (9_999_999.999_999_99, "9999999.99999999"),
            (1e7, "10000000.0"),
            (1e16, "1e+16"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN, "-1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, wanted) in cases {
            assert_eq!(float(value), wanted);
        }
        let json = |value| text(FLOAT_WIDTH, |window| put_f64(window, 0, value, true));
        assert_eq!(json(f64::NAN), "null");
        assert_eq!(json(f64::NEG_INFINITY), "\"-inf\"");
        assert_eq!(text(FLOAT_WIDTH, |s| put_f32(s, 0, 1.1, false)), "1.1");
        assert_eq!(text(FLOAT_WIDTH, |s| put_f32(s, 0, f32::MIN, true)), "-3.4028235e+38");
        assert_eq!(text(FLOAT_WIDTH, |s| put_f32(s, 0, f32::INFINITY, true)), "\"inf\"");
    }

    #[test]
    fn extreme_decimals_are_exact() {
        assert_eq!(decimal(i64::MIN, 18), "-9.223372036854775808");
        assert_eq!(decimal(i64::MAX, 0), "9223372036854775807");
        assert_eq!(decimal(-1, 18), "-0.000000000000000001");
        assert_eq!(decimal(0, 9), "0.0");
        assert_eq!(decimal(1230, 3), "1.23");
        assert_eq!(decimal(-100, 2), "-1.0");
        assert_eq!(decimal(123_456_789_000, 9), "123.456789");
        assert_eq!(decimal(i64::MIN, 8), "-92233720368.54775808");
    }

    #[test]
    fn extreme_times_are_written() {
        use TimeUnit::{Micros, Nanos};
        assert_eq!(time(Micros, "UTC", 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(Nanos, "UTC", u64::MAX), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(time(Micros, "UTC", u64::MAX), u64::MAX.to_string());
        assert_eq!(time(Micros, "America/New_York", 1), "1969-12-31T19:00:00.000001-05:00");
        assert_eq!(time(Micros, "Asia/Kathmandu", 0), "1970-01-01T05:30:00.000000+05:30");
        // Until 1972 Liberia was 44 minutes and 30 seconds behind UTC.
        assert_eq!(time(Micros, "Africa/Monrovia", 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(Micros, "UTC", 951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
    }

    #[test]
    fn one_clock_follows_its_zone_across_transitions_both_ways() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let mut clock = Clock::new(TimeUnit::Micros, &zone);
        let spring = 1_762_063_200i64; // 2025-11-02T06:00:00Z, when the clocks went back
        let seconds = [0, -1, 1, -86_400, 180 * 86_400, 0, -400 * 86_400, -1, 0];
        for second in seconds.map(|s| spring + s) {
            let got = text(TIME_WIDTH, |window| clock.put(window, 0, second as u64 * 1_000_000));
            let instant = Timestamp::from_second(second).unwrap();
            let wanted = instant.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S.000000%:z");
            assert_eq!(got, wanted.to_string());
        }
    }

    fn exact(value: i64, scale: u8) -> (i128, i128) {
        let shown = decimal(value, scale);
        let negative = shown.starts_with('-');
        let digits = shown.trim_start_matches('-');
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        assert!(scale == 0 || fraction == "0" || !fraction.ends_with('0') && !fraction.is_empty());
        let read: i128 = format!("{whole}{fraction:0<18}").parse().unwrap();
        let wanted = i128::from(value) * i128::from(POWERS[18 - usize::from(scale)]);
        (if negative { -read } else { read }, wanted)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn floats_read_back_bit_for_bit(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn short_decimals_are_as_short_as_display(
            m in 0u64..2_000_000_000_000_000,
            scale in 0u8..10,
        ) {
            let value = m as f64 / POWERS[usize::from(scale)] as f64;
            let shown = float(value);
            prop_assert_eq!(shown.parse::<f64>().unwrap().to_bits(), value.to_bits());
            let digits = |text: &str| {
                let all: String = text.chars().filter(char::is_ascii_digit).collect();
                all.trim_matches('0').len()
            };
            let shortest = format!("{value}");
            prop_assert_eq!(digits(shown.split('e').next().unwrap()), digits(&shortest));
        }

        #[test]
        fn binary32_reads_back(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(!value.is_nan());
            let shown = text(FLOAT_WIDTH, |window| put_f32(window, 0, value, false));
            prop_assert_eq!(shown.parse::<f32>().unwrap().to_bits(), bits);
        }

        #[test]
        fn decimals_are_exact(value: i64, scale in 0u8..19) {
            let (read, wanted) = exact(value, scale);
            prop_assert_eq!(read, wanted);
            let (read, wanted) = exact(value % 1_000_000, scale);
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn times_read_back(ticks in 0u64..253_402_207_200_000_000, shift in 0u32..40) {
            let ticks = ticks >> shift;
            for zone in ["UTC", "America/Chicago", "Europe/London", "Asia/Tokyo"] {
                let shown = time(TimeUnit::Micros, zone, ticks);
                let read: Timestamp = shown.parse().unwrap();
                prop_assert_eq!(read.as_microsecond(), ticks as i64);
                let shown = time(TimeUnit::Nanos, zone, ticks);
                let read: Timestamp = shown.parse().unwrap();
                prop_assert_eq!(read.as_nanosecond(), i128::from(ticks));
            }
        }
    }
}
