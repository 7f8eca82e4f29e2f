//! Sharding: runs can split their scenarios across several hosts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A shard number and the shard count, written `2/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShardNumber {
    number: u32,
    of: u32,
}

/// The text is not a [`ShardNumber`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a shard; write NUMBER/COUNT, e.g. 1/4 for the first of four")]
pub struct InvalidShard(String);

/// The position of a shard within its larger run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub number: ShardNumber,
    /// The names of all scenarios in the larger run, in execution order.
    pub of_scenarios: Vec<String>,
}

impl ShardNumber {
    /// The maximum number of shards.
    pub const MOST: u32 = 1000;

    /// Creates shard `number` of `of`, counted from 1. Returns `None` if the number is out of range.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of }).filter(|_| of <= Self::MOST)
    }

    /// Returns the shard number, starting at 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Returns the shard count.
    pub fn of(self) -> u32 {
        self.of
    }

    /// Returns the positions of this shard's scenarios in `names`. The assignment is round-robin in
    /// alphabetical order, so the input order has no effect and shard sizes differ by at most one.
    pub fn picks<S: AsRef<str>>(self, names: &[S]) -> Vec<usize> {
        let mut sorted: Vec<_> = names.iter().map(AsRef::as_ref).zip(0..).collect();
        sorted.sort_unstable();
        let own = (self.number - 1) as usize;
        let mut picked: Vec<usize> =
            sorted.into_iter().skip(own).step_by(self.of as usize).map(|(_, position)| position).collect();
        picked.sort_unstable();
        picked
    }
}

impl fmt::Display for ShardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for ShardNumber {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((plain(number)?, plain(of)?)));
        numbers.and_then(|(number, of)| Self::new(number, of)).ok_or_else(|| InvalidShard(text.to_owned()))
    }
}

/// Parses a number without a sign. `parse` alone accepts a sign.
fn plain(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

impl TryFrom<String> for ShardNumber {
    type Error = InvalidShard;

    fn try_from(text: String) -> Result<Self, InvalidShard> {
        text.parse()
    }
}

impl From<ShardNumber> for String {
    fn from(number: ShardNumber) -> Self {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_is_written_as_number_and_count() {
        let second: ShardNumber = "2/4".parse().expect("a part");
        assert_eq!((second.number(), second.of(), second.to_string().as_str()), (2, 4, "2/4"));
        for text in ["", "2", "0/4", "5/4", "1/0", "1/2/3", "+1/4", " 1/4", "a/b", "1/1001", "1/-1"] {
            assert!(text.parse::<ShardNumber>().is_err(), "{text}");
        }
        let error = "5/4".parse::<ShardNumber>().expect_err("no part").to_string();
        assert_eq!(error, "\"5/4\" is not a shard; write NUMBER/COUNT, e.g. 1/4 for the first of four");
    }

    #[test]
    fn names_are_dealt_out_in_alphabetical_order() {
        let names = ["mixed", "compute", "tailnet", "extension", "partition"];
        let part = |text: &str| {
            let picks = text.parse::<ShardNumber>().expect("a part").picks(&names);
            picks.into_iter().map(|at| names[at]).collect::<Vec<_>>()
        };
        assert_eq!(part("1/2"), ["mixed", "compute", "tailnet"]);
        assert_eq!(part("2/2"), ["extension", "partition"]);
        assert_eq!(part("1/1"), names);
        assert!(part("6/6").is_empty());
    }

    proptest! {
        #[test]
        fn each_scenario_is_in_one_part_whatever_the_order(
            mut names in proptest::collection::vec("[a-d]{1,2}", 0..12),
            of in 1u32..7,
            turn in 0usize..12,
        ) {
            let dealt = |names: &[String]| -> Vec<Vec<String>> {
                let parts = (1..=of).filter_map(|number| ShardNumber::new(number, of));
                parts.map(|part| {
                    let mut own: Vec<_> = part.picks(names).into_iter().map(|at| names[at].clone()).collect();
                    own.sort();
                    own
                }).collect()
            };
            let parts = dealt(&names);
            let sizes = parts.iter().map(Vec::len);
            prop_assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
            let mut all = parts.concat();
            all.sort();
            let mut sorted = names.clone();
            sorted.sort();
            prop_assert_eq!(all, sorted);
            let turn = turn % names.len().max(1);
            names.rotate_left(turn);
            prop_assert_eq!(dealt(&names), parts);
        }
    }
}
