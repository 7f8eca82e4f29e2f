//! Conditions on an observed value, and their combinations.

/// A condition on an observed value. Closures `Fn(&T) -> Result<(), String>` implement it.
pub trait Condition<T: ?Sized> {
    /// Checks the observed value.
    ///
    /// # Errors
    /// The reason why the condition does not hold, as a fragment that fits after "last seen: ".
    fn check(&self, seen: &T) -> Result<(), String>;

    /// Holds when both conditions hold. The reason is from the first condition that does not hold.
    fn and<C: Condition<T>>(self, other: C) -> And<Self, C>
    where
        Self: Sized,
    {
        And(self, other)
    }

    /// Holds when at least one condition holds. The reason contains the reasons of both.
    fn or<C: Condition<T>>(self, other: C) -> Or<Self, C>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Holds when this condition does not hold. The reason is `cause`.
    fn not(self, cause: impl Into<String>) -> Not<Self>
    where
        Self: Sized,
    {
        Not(self, cause.into())
    }
}

impl<T: ?Sized, F: Fn(&T) -> Result<(), String>> Condition<T> for F {
    fn check(&self, seen: &T) -> Result<(), String> {
        self(seen)
    }
}

/// See [`Condition::and`].
#[must_use]
#[derive(Clone, Debug)]
pub struct And<A, B>(A, B);

impl<T: ?Sized, A: Condition<T>, B: Condition<T>> Condition<T> for And<A, B> {
    fn check(&self, seen: &T) -> Result<(), String> {
        self.0.check(seen)?;
        self.1.check(seen)
    }
}

/// See [`Condition::or`].
#[must_use]
#[derive(Clone, Debug)]
pub struct Or<A, B>(A, B);

impl<T: ?Sized, A: Condition<T>, B: Condition<T>> Condition<T> for Or<A, B> {
    fn check(&self, seen: &T) -> Result<(), String> {
        let Err(first) = self.0.check(seen) else { return Ok(()) };
        self.1.check(seen).map_err(|second| format!("{first}; and {second}"))
    }
}

/// See [`Condition::not`].
#[must_use]
#[derive(Clone, Debug)]
pub struct Not<A>(A, String);

impl<T: ?Sized, A: Condition<T>> Condition<T> for Not<A> {
    fn check(&self, seen: &T) -> Result<(), String> {
        match self.0.check(seen) {
            Ok(()) => Err(self.1.clone()),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn above(least: u32) -> impl Condition<u32> {
        move |seen: &u32| if *seen > least { Ok(()) } else { Err(format!("{seen} is not above {least}")) }
    }

    #[test]
    fn both_conditions_must_hold_and_the_first_that_does_not_is_the_cause() {
        let both = above(3).and(above(5));
        assert_eq!(both.check(&6), Ok(()));
        assert_eq!(both.check(&4), Err("4 is not above 5".into()));
        assert_eq!(both.check(&1), Err("1 is not above 3".into()));
    }

    #[test]
    fn one_of_two_conditions_is_enough_and_else_both_are_the_cause() {
        let one = above(9).or(above(3));
        assert_eq!((one.check(&10), one.check(&4)), (Ok(()), Ok(())));
        assert_eq!(one.check(&1), Err("1 is not above 9; and 1 is not above 3".into()));
    }

    #[test]
    fn a_negated_condition_has_a_cause_of_its_own() {
        let low = above(3).not("it is still high");
        assert_eq!(low.check(&2), Ok(()));
        assert_eq!(low.check(&4), Err("it is still high".into()));
        assert_eq!(above(3).not("").not("it is low").check(&2), Err("it is low".into()));
    }
}
