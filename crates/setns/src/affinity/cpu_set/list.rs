// SPDX-License-Identifier: Apache-2.0
//! Lists of CPUs as people write them: runc's grammar and the kernel's.

use super::CpuSet;

/// The highest CPU a list may name: runc's limit, which is well above any kernel's `NR_CPUS`.
pub const MAX_CPU: usize = 65536;

/// The CPU that the kernel's `N` and the end of `all` stand for here. How many there really are
/// is of no interest where only the CPUs of a cpuset count.
const LAST_CPU: usize = 8191;

/// A list that makes no sense, with the texts of Go and of runc's `configs.ToCPUSet`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not a number.
    #[error("strconv.ParseUint: parsing {text:?}: invalid syntax")]
    Syntax {
        /// What stands in its place.
        text: String,
    },
    /// A number that does not fit 32 bits.
    #[error("strconv.ParseUint: parsing {text:?}: value out of range")]
    OutOfRange {
        /// The number.
        text: String,
    },
    /// A CPU above [`MAX_CPU`].
    #[error("values larger than {MAX_CPU} are not supported")]
    TooLarge,
    /// A range that ends before it starts.
    #[error("invalid range: {range}")]
    Reversed {
        /// The range.
        range: String,
    },
    /// A list without any CPU.
    #[error("no members found in set {list:?}")]
    Empty {
        /// The list.
        list: String,
    },
    /// `:used/group` that is not of this form, has no range, or uses more than the group has.
    #[error("invalid pattern: {region}")]
    Pattern {
        /// The range with its pattern.
        region: String,
    },
}

impl CpuSet {
    /// Parses a list of `execCPUAffinity`: numbers and ranges, separated by commas. Spaces around
    /// them and empty elements are allowed, spaces inside a range are not. An empty list means
    /// "unset" and is for the caller to notice.
    ///
    /// # Errors
    /// A list that makes no sense or names no CPU.
    pub fn parse_list(text: &str) -> Result<CpuSet, ListError> {
        let mut set = CpuSet::default();
        for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
            let (start, end) = element.split_once('-').unwrap_or((element, element));
            set.insert_checked(element, number(start)?, number(end)?)?;
        }
        if set.is_empty() {
            return Err(ListError::Empty { list: text.to_owned() });
        }
        Ok(set)
    }

    /// Parses a list as the kernel does for `cpuset.cpus` and `nohz_full=` (`bitmap_parselist()`,
    /// Documentation/admin-guide/kernel-parameters.rst): as above, and whitespace separates too, a
    /// range may have a pattern (`0-31:2/8` is the first two of every eight), `all` is a range, and
    /// `N` ends one at the last CPU. Only the first line counts, and it may be empty.
    ///
    /// # Errors
    /// A list that makes no sense, and `N` anywhere else: which CPU is the last is not known here.
    pub fn parse_kernel_list(text: &str) -> Result<CpuSet, ListError> {
        let line = text.lines().next().unwrap_or_default();
        let mut set = CpuSet::default();
        let separator = |c: char| c == ',' || c.is_ascii_whitespace();
        for region in line.split(separator).filter(|region| !region.is_empty()) {
            set.insert_region(region)?;
        }
        Ok(set)
    }

    fn insert_region(&mut self, region: &str) -> Result<(), ListError> {
        let (range, pattern) = match region.split_once(':') {
            Some((range, pattern)) => (range, Some(pattern)),
            None => (region, None),
        };
        let is_range = range.contains('-') || range.eq_ignore_ascii_case("all");
        let (start, end) = bounds(range)?;
        let Some(pattern) = pattern else {
            return self.insert_checked(region, start, end);
        };
        let wrong = || ListError::Pattern { region: region.to_owned() };
        let (used, group) = pattern.split_once('/').filter(|_| is_range).ok_or_else(wrong)?;
        let (used, group) = (number(used)?, number(group)?);
        if group == 0 || used > group {
            return Err(wrong());
        }
        if start > end {
            return Err(ListError::Reversed { range: region.to_owned() });
        }
        if used > 0 {
            for first in (start..=end).step_by(group) {
                self.insert_range(first, end.min(first + used - 1));
            }
        }
        Ok(())
    }

    fn insert_checked(&mut self, range: &str, start: usize, end: usize) -> Result<(), ListError> {
        if start > end {
            return Err(ListError::Reversed { range: range.to_owned() });
        }
        self.insert_range(start, end);
        Ok(())
    }
}

/// First and last CPU of a range in the kernel's grammar.
fn bounds(range: &str) -> Result<(usize, usize), ListError> {
    if range.eq_ignore_ascii_case("all") {
        return Ok((0, LAST_CPU));
    }
    match range.split_once('-') {
        Some((start, "N")) => Ok((number(start)?, LAST_CPU)),
        Some((start, end)) => Ok((number(start)?, number(end)?)),
        None => number(range).map(|cpu| (cpu, cpu)),
    }
}

/// Decimal digits and nothing else; `str::parse` would take a sign.
fn number(text: &str) -> Result<usize, ListError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ListError::Syntax { text: text.to_owned() });
    }
    let Ok(number) = text.parse::<u32>() else {
        return Err(ListError::OutOfRange { text: text.to_owned() });
    };
    usize::try_from(number).ok().filter(|cpu| *cpu <= MAX_CPU).ok_or(ListError::TooLarge)
}
