// SPDX-License-Identifier: Apache-2.0
//! What is made of many measurements of one thing.

use serde::{Deserialize, Serialize};

/// How many parts a ratio's spread is taken from.
const PARTS: usize = 8;

/// Measurements of one thing, in the order they were made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        // Six digits are more than there is to know, and keep the file small.
        self.0.push((value * 1e6).round() / 1e6);
    }

    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        values.into_iter().for_each(|value| self.add(value));
    }

    pub(crate) fn one(value: f64) -> Samples {
        let mut samples = Samples::default();
        samples.add(value);
        samples
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// The value that `percent` of all are not above.
    pub(crate) fn percentile(&self, percent: usize) -> Option<f64> {
        percentile(&self.0, percent)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.percentile(50)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Samples {
        let mut samples = Samples::default();
        samples.extend(values);
        samples
    }
}

fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied()
}

/// How many times as much one is as another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// Of the medians.
    pub(crate) value: f64,
    /// The least and the largest ratio that an eighth of the run shows by itself: what was measured
    /// in turn is cut into as many parts, and their medians are compared.
    pub(crate) spread: Option<(f64, f64)>,
}

impl Ratio {
    /// `above` ÷ `below`; `None` without both, or when that is no number.
    pub(crate) fn of(above: &Samples, below: &Samples) -> Option<Ratio> {
        let divide = |above: f64, below: f64| Some(above / below).filter(|ratio| ratio.is_finite());
        let value = divide(above.median()?, below.median()?)?;
        let parts = above.len().min(below.len()).min(PARTS);
        let part = |samples: &Samples, number: usize| {
            let (from, to) = (samples.len() * number / parts, samples.len() * (number + 1) / parts);
            percentile(samples.0.get(from..to)?, 50)
        };
        let ratio = |number| divide(part(above, number)?, part(below, number)?);
        let ratios: Vec<f64> = (0..parts).filter_map(ratio).collect();
        let spread = match ratios.len() {
            0 | 1 => None,
            _ => Some((
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            )),
        };
        Some(Ratio { value, spread })
    }
}

/// The straight line closest to points (least squares): its slope, and how far that is from
/// certain (its standard error).
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count: f64 = points.iter().map(|_| 1.0).sum();
    if count < 3.0 {
        return None;
    }
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let square: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let product: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let slope = product / square;
    let rest = |(x, y): &(f64, f64)| (y - y_mean - slope * (x - x_mean)).powi(2);
    let error = (points.iter().map(rest).sum::<f64>() / (count - 2.0) / square).sqrt();
    Some((slope, error)).filter(|(slope, _)| slope.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples = samples(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.median(), Some(2.0));
        assert_eq!((samples.percentile(1), samples.percentile(99)), (Some(1.0), Some(4.0)));
        assert_eq!(Samples::default().median(), None);
    }

    #[test]
    fn a_ratio_has_the_spread_of_its_parts() {
        let ratio = Ratio::of(&samples(&[10.0, 20.0]), &samples(&[1.0, 1.0])).unwrap();
        assert_eq!(ratio, Ratio { value: 10.0, spread: Some((10.0, 20.0)) });
        let single = Ratio::of(&samples(&[10.0]), &samples(&[2.0])).unwrap();
        assert_eq!(single, Ratio { value: 5.0, spread: None });
        assert_eq!(Ratio::of(&samples(&[1.0]), &samples(&[0.0])), None);
        assert_eq!(Ratio::of(&samples(&[]), &samples(&[1.0])), None);
    }

    #[test]
    fn a_line_is_found() {
        let (slope_of, error) = slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]).unwrap();
        assert!((slope_of - 2.0).abs() < 1e-9 && error < 1e-6);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0)]), None);
    }
}
