//! The quantities of an impairment in text form: `50ms`, `2%`, `10Mbit`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// The text is not a quantity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{text}\" is not {what}; write {example}")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A frame delay in whole microseconds, at most one minute. Written `50ms`, `1.5s` or `200us`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delay {
    micros: u64,
}

impl Delay {
    const UNITS: [(&'static str, f64); 3] = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    const LONGEST: f64 = 60e6;

    /// Creates a delay in milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self { micros: millis * 1000 }
    }

    /// Converts the delay to a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_micros(self.micros)
    }

    pub const fn is_zero(self) -> bool {
        self.micros == 0
    }
}

impl FromStr for Delay {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity {
            text: text.to_owned(),
            what: "a delay of at most a minute",
            example: "50ms, 1.5s or 200us",
        };
        let micros = measured(text, &Self::UNITS).filter(|micros| *micros <= Self::LONGEST);
        Ok(Self { micros: micros.ok_or_else(invalid)? as u64 })
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micros {
            0 => f.write_str("0ms"),
            micros if micros.is_multiple_of(1_000_000) => write!(f, "{}s", micros / 1_000_000),
            micros if micros.is_multiple_of(1000) => write!(f, "{}ms", micros / 1000),
            micros => write!(f, "{micros}us"),
        }
    }
}

/// The share of lost frames, in parts per million. Written `2%` or `0.5%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Loss {
    per_million: u32,
}

impl Loss {
    /// Creates a loss in percent, at most 100.
    pub const fn percent(percent: u32) -> Self {
        Self { per_million: if percent > 100 { 1_000_000 } else { percent * 10_000 } }
    }

    /// Returns the lost frames per million.
    pub const fn per_million(self) -> u32 {
        self.per_million
    }
}

impl FromStr for Loss {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity {
            text: text.to_owned(),
            what: "a share of frames from 0% to 100%",
            example: "2% or 0.5%",
        };
        let share = measured(text, &[("%", 1e4)]).filter(|share| *share <= 1e6);
        Ok(Self { per_million: share.ok_or_else(invalid)? as u32 })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.per_million) / 1e4)
    }
}

/// The bandwidth of a link in bits per second, per direction. Written `10Mbit`, `512kbit` or `1Gbit`; the
/// prefixes are decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    bits: u64,
}

impl Rate {
    const UNITS: [(&'static str, f64); 4] = [("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    const SLOWEST: f64 = 1e3;
    const FASTEST: f64 = 1e12;

    /// Creates a rate in megabits per second; at least 1.
    pub const fn megabits(megabits: u64) -> Self {
        Self { bits: if megabits == 0 { 1_000_000 } else { megabits * 1_000_000 } }
    }

    /// Returns the transmission time of `bytes`.
    pub fn time_of(self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.bits.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = InvalidQuantity;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidQuantity {
            text: text.to_owned(),
            what: "a rate of at least 1kbit a second",
            example: "10Mbit, 512kbit or 1Gbit",
        };
        let bits = measured(text, &Self::UNITS).filter(|bits| (Self::SLOWEST..=Self::FASTEST).contains(bits));
        Ok(Self { bits: bits.ok_or_else(invalid)? as u64 })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            bits if bits.is_multiple_of(1_000_000_000) => write!(f, "{}Gbit", bits / 1_000_000_000),
            bits if bits.is_multiple_of(1_000_000) => write!(f, "{}Mbit", bits / 1_000_000),
            bits if bits.is_multiple_of(1000) => write!(f, "{}kbit", bits / 1000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

macro_rules! as_text {
    ($($quantity:ty),*) => { $(
        impl TryFrom<String> for $quantity {
            type Error = InvalidQuantity;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$quantity> for String {
            fn from(quantity: $quantity) -> Self {
                quantity.to_string()
            }
        }
    )* };
}
as_text!(Delay, Loss, Rate);

/// Parses a number with a unit, and returns it in the smallest unit, rounded. Returns `None` if the text
/// has another form. Units are case-insensitive.
fn measured(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let (_, scale) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    let number: f64 = number.parse().ok()?;
    Some((number * scale).round())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_written_as_people_write_them() {
        let delays = ["50ms", "1500us", "1.5s", "0ms", "2 ms"].map(|text| text.parse::<Delay>().unwrap());
        assert_eq!(delays.map(|delay| delay.to_string()), ["50ms", "1500us", "1500ms", "0ms", "2ms"]);
        assert_eq!(delays[2].duration(), Duration::from_millis(1500));
        let losses = ["2%", "0.5%", "100%"].map(|text| text.parse::<Loss>().unwrap());
        assert_eq!(losses.map(Loss::per_million), [20_000, 5_000, 1_000_000]);
        let rates = ["10Mbit", "512kbit", "1gbit", "9600bit"].map(|text| text.parse::<Rate>().unwrap());
        assert_eq!(rates.map(|rate| rate.to_string()), ["10Mbit", "512kbit", "1Gbit", "9600bit"]);
        assert_eq!(rates[0].time_of(1250), Duration::from_millis(1));
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in ["", "50", "ms", "-5ms", "61s", "1e3ms", "5min", "1.2.3ms"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        for text in ["", "2", "101%", "-1%", "%"] {
            assert!(text.parse::<Loss>().is_err(), "{text}");
        }
        for text in ["", "0Mbit", "10", "10MB", "999bit", "2000Gbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        let error = "fast".parse::<Rate>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"fast\" is not a rate of at least 1kbit a second; write 10Mbit, 512kbit or 1Gbit"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros in 0..60_000_000_u64, share in 0..=1_000_000_u32, bits in 1000..1_000_000_000_u64) {
            let (delay, loss, rate) = (Delay { micros }, Loss { per_million: share }, Rate { bits });
            prop_assert_eq!(delay.to_string().parse(), Ok(delay));
            prop_assert_eq!(loss.to_string().parse(), Ok(loss));
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,12}") {
            let _ = (text.parse::<Delay>(), text.parse::<Loss>(), text.parse::<Rate>());
        }
    }
}
