// SPDX-License-Identifier: Apache-2.0
//! Identifiers, by the rule of containerd's pkg/identifiers. They become file names.

use crate::error::Error;

const MAX_LENGTH: usize = 76;

/// Checks `^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$`, at most 76 characters.
pub(crate) fn validate(id: &str) -> Result<(), Error> {
    if id.is_empty() {
        return Err(Error::InvalidArgument("identifier must not be empty".to_owned()));
    }
    if id.len() > MAX_LENGTH {
        let text =
            format!("identifier {id:?} greater than maximum length ({MAX_LENGTH} characters)");
        return Err(Error::InvalidArgument(text));
    }
    let words = |c: char| matches!(c, '.' | '_' | '-');
    let well_formed =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if id.split(words).all(well_formed) {
        return Ok(());
    }
    let rule = "^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$";
    Err(Error::InvalidArgument(format!("identifier {id:?} must match {rule}")))
}

#[cfg(test)]
mod tests {
    use super::validate;

    #[test]
    fn the_rule_of_containerd() {
        for good in ["a", "test-1", "a.b_c-d", &"x".repeat(76)] {
            validate(good).unwrap();
        }
        for bad in ["", "..", "a/b", "../x", "-a", "a-", "a--b", "a b", "ä", &"x".repeat(77)] {
            assert!(validate(bad).is_err(), "{bad}");
        }
    }
}
