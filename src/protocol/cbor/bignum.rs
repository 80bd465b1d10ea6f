//! Integers of any size, between decimal digits (JSON) and big-endian bytes (CBOR tags 2 and 3).
//!
//! Schoolbook conversion takes the square of the length, so the length is limited: nobody may keep
//! the broker busy with one long number.

/// The longest integer that is converted, in bytes.
pub(super) const MAX_BYTES: usize = 256;

/// So many digits fit [`MAX_BYTES`] whatever they are.
pub(super) const MAX_DIGITS: usize = 616;

const BILLION: u64 = 1_000_000_000;
const BILLION_DIGITS: usize = 9;

/// The bytes of an integer of at most [`MAX_DIGITS`] decimal digits, without leading zeros.
pub(super) fn to_bytes(digits: &str) -> Vec<u8> {
    let mut limbs: Vec<u32> = Vec::new();
    let mut rest = digits.as_bytes();
    while !rest.is_empty() {
        let (group, after) = rest.split_at((rest.len() - 1) % BILLION_DIGITS + 1);
        let value = group.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        multiply_add(&mut limbs, value);
        rest = after;
    }
    limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).skip_while(|&byte| byte == 0).collect()
}

/// Multiplies by a billion (which makes room for nine more digits) and adds those.
fn multiply_add(limbs: &mut Vec<u32>, digits: u64) {
    let mut carry = digits;
    for limb in limbs.iter_mut() {
        let product = u64::from(*limb) * BILLION + carry;
        *limb = product as u32;
        carry = product >> 32;
    }
    if carry > 0 {
        limbs.push(carry as u32);
    }
}

/// The decimal digits of the integer in at most [`MAX_BYTES`] bytes, plus `plus` (0 or 1), which
/// the negative ones need: tag 3 holds -1 - n.
pub(super) fn to_digits(bytes: &[u8], plus: u32) -> String {
    let word = |chunk: &[u8]| chunk.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
    let mut limbs: Vec<u32> = bytes.rchunks(4).rev().map(word).collect();
    add(&mut limbs, plus);
    let mut groups = Vec::new();
    while limbs.iter().any(|&limb| limb > 0) {
        groups.push(divide(&mut limbs));
    }
    let mut groups = groups.into_iter().rev();
    let first = groups.next().unwrap_or_default().to_string();
    groups.fold(first, |digits, group| digits + &format!("{group:09}"))
}

/// Adds to big-endian limbs.
fn add(limbs: &mut Vec<u32>, plus: u32) {
    let mut carry = plus;
    for limb in limbs.iter_mut().rev() {
        let (sum, over) = limb.overflowing_add(carry);
        *limb = sum;
        carry = u32::from(over);
    }
    if carry > 0 {
        limbs.insert(0, carry);
    }
}

/// Divides big-endian limbs by a billion and returns the remainder.
fn divide(limbs: &mut [u32]) -> u64 {
    let mut remainder = 0;
    for limb in limbs {
        let dividend = remainder << 32 | u64::from(*limb);
        *limb = (dividend / BILLION) as u32;
        remainder = dividend % BILLION;
    }
    remainder
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_number_fits_either_way() {
        let nines = "9".repeat(MAX_DIGITS);
        assert!(to_bytes(&nines).len() <= MAX_BYTES);
        assert_eq!(to_digits(&to_bytes(&nines), 0), nines);
        let digits = to_digits(&[0xff; MAX_BYTES], 1);
        assert_eq!(digits.len(), MAX_DIGITS + 1);
        assert!(digits.starts_with("32317006071311007300"), "2^2048 is {digits}");
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(to_digits(&[], 0), "0");
        assert_eq!(to_digits(&[0, 0, 0, 0, 0], 0), "0");
        assert_eq!(to_digits(&[], 1), "1");
        assert_eq!(to_bytes("0"), [] as [u8; 0]);
    }

    proptest! {
        #[test]
        fn small_numbers_are_as_the_machine_has_them(number in 0..u128::MAX) {
            let bytes = number.to_be_bytes();
            prop_assert_eq!(to_digits(&bytes, 0), number.to_string());
            prop_assert_eq!(to_digits(&bytes, 1), (number + 1).to_string());
            let short: Vec<u8> = bytes.into_iter().skip_while(|&byte| byte == 0).collect();
            prop_assert_eq!(to_bytes(&number.to_string()), short);
        }

        #[test]
        fn digits_come_back(digits in "[1-9][0-9]{0,300}") {
            prop_assert_eq!(to_digits(&to_bytes(&digits), 0), digits);
        }
    }
}
