//! Memory and disk sizes in text form: `2GiB`, `512MiB`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A memory or disk size in whole MiB, the unit that QEMU uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    mib: u64,
}

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a size: {reason}; write a whole number and a unit, e.g. 2GiB or 1536MiB")]
pub struct InvalidSize {
    text: String,
    reason: &'static str,
}

impl Size {
    /// Creates a size in MiB.
    pub const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// Creates a size in GiB.
    pub const fn gib(gib: u64) -> Self {
        Self { mib: gib * 1024 }
    }

    /// Returns the size in MiB.
    pub const fn as_mib(self) -> u64 {
        self.mib
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> u64 {
        self.mib << 20
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.mib {
            mib if mib > 0 && mib.is_multiple_of(1024) => format!("{}GiB", mib / 1024),
            mib => format!("{mib}MiB"),
        };
        f.pad(&text)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| InvalidSize { text: text.to_owned(), reason };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = match number.parse() {
            Ok(number) => number,
            Err(_) if digits == 0 => return Err(fail("it does not start with a whole number")),
            Err(_) => return Err(fail("the number is too large")),
        };
        let factor = match unit.trim() {
            "MiB" => 1,
            "GiB" => 1024,
            "TiB" => 1024 * 1024,
            "" => return Err(fail("the unit is missing")),
            "KB" | "MB" | "GB" | "TB" | "M" | "G" | "T" | "Mi" | "Gi" | "Ti" => {
                return Err(fail("the unit must be spelled out as MiB, GiB or TiB"));
            }
            _ => return Err(fail("the unit is none of MiB, GiB, TiB")),
        };
        // 2^53 bytes exceed the capacity of any host, and prevent an overflow in later sums.
        let mib = number.checked_mul(factor).filter(|mib| *mib <= 1 << 33);
        mib.map(Self::mib).ok_or_else(|| fail("the number is too large"))
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit() {
        assert_eq!("2GiB".parse(), Ok(Size::gib(2)));
        assert_eq!("1536 MiB".parse(), Ok(Size::mib(1536)));
        assert_eq!(Size::mib(2048).to_string(), "2GiB");
        assert_eq!(Size::gib(1).bytes(), 1 << 30);
        for wrong in ["", "2", "GiB", "2GB", "2Gi", "-1GiB", "1.5GiB", "2gib", "99999999999999999999GiB"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in ".{0,12}") {
            let _ = text.parse::<Size>();
        }

        #[test]
        fn a_size_survives_being_written(mib in 0u64..1 << 33) {
            prop_assert_eq!(Size::mib(mib).to_string().parse(), Ok(Size::mib(mib)));
        }
    }
}
