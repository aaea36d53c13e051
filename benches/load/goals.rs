//! What a figure ought to be, and whether it is.

use crate::figures::{Figures, Measure};
use crate::plan::Rival;
use crate::servers::Kind;
use crate::spread::{Spread, number};

/// A figure of one rival: its kind, its variant and what is measured.
type Figure = (Kind, &'static str, Measure);

/// A figure, or what it is of another one, its bound, and what is meant to be reached in the end.
pub(crate) struct Goal {
    of: Figure,
    over: Option<Figure>,
    bound: Bound,
    stretch: Option<f64>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// A rate that is so many times that of another server.
pub(crate) fn ratio(kind: Kind, measure: Measure, peer: Kind, least: f64) -> Goal {
    at_least((kind, "", measure), Some((peer, "", measure)), least)
}

pub(crate) fn at_least(of: Figure, over: Option<Figure>, least: f64) -> Goal {
    Goal { of, over, bound: Bound::AtLeast(least), stretch: None }
}

pub(crate) fn at_most(kind: Kind, measure: Measure, most: f64) -> Goal {
    Goal { of: (kind, "", measure), over: None, bound: Bound::AtMost(most), stretch: None }
}

/// A cost that is at most so many times that of another server.
pub(crate) fn share(kind: Kind, measure: Measure, peer: Kind, most: f64) -> Goal {
    let (of, over) = ((kind, "", measure), Some((peer, "", measure)));
    Goal { of, over, bound: Bound::AtMost(most), stretch: None }
}

/// All that was measured of one rival: the figures of each round.
pub(crate) struct Measured {
    pub(crate) rival: Rival,
    pub(crate) rounds: Vec<Figures>,
    /// Why it does not go on; its figures do not count then.
    pub(crate) failure: Option<String>,
}

impl Measured {
    /// The spread of one measure over the rounds.
    pub(crate) fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(&measure).copied()).collect())
    }
}

impl Goal {
    /// With a bound that is further off, on the same side.
    pub(crate) fn stretch(mut self, stretch: impl Into<Option<f64>>) -> Self {
        self.stretch = stretch.into();
        self
    }

    /// A line of the table of goals.
    pub(crate) fn line(&self, measured: &[Measured]) -> String {
        let (sign, bound) = match self.bound {
            Bound::AtLeast(least) => ("≥", least),
            Bound::AtMost(most) => ("≤", most),
        };
        let spread = self.spread(measured);
        let told = spread.map_or_else(|| "not measured".to_owned(), |spread| spread.to_string());
        let is_met = spread.map(|spread| match self.bound {
            Bound::AtLeast(least) => spread.median >= least,
            Bound::AtMost(most) => spread.median <= most,
        });
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "",
        };
        let stretch = self.stretch.map(|stretch| format!("{sign} {}", number(stretch)));
        let (subject, stretch) = (self.subject(), stretch.unwrap_or_default());
        format!("| {subject} | {told} | {sign} {} | {verdict} | {stretch} |", number(bound))
    }

    fn subject(&self) -> String {
        let (kind, variant, measure) = self.of;
        let rival = |kind: Kind, variant: &str| {
            let comma = if variant.is_empty() { "" } else { ", " };
            format!("{}{comma}{variant}", kind.name())
        };
        let of = rival(kind, variant);
        match self.over {
            None => format!("{of}: {}", measure.title()),
            Some((peer, other, over)) if (peer, other) == (kind, variant) => {
                format!("{of}: {} / {}", measure.title(), over.title())
            }
            Some((peer, other, _)) => format!("{of}: {} / {}", measure.title(), rival(peer, other)),
        }
    }

    /// Of a ratio, that of the two figures of each round, since only those were measured together.
    fn spread(&self, measured: &[Measured]) -> Option<Spread> {
        let of = values(measured, self.of)?;
        let Some(over) = self.over else { return Spread::of(of) };
        let over = values(measured, over)?;
        Spread::of(of.into_iter().zip(over).map(|(of, over)| of / over).collect())
    }
}

/// The figure of each round.
fn values(measured: &[Measured], (kind, variant, measure): Figure) -> Option<Vec<f64>> {
    let is_it =
        |measured: &&Measured| measured.rival.kind == kind && measured.rival.variant == variant;
    let measured = measured.iter().find(is_it).filter(|measured| measured.failure.is_none())?;
    measured.rounds.iter().map(|round| round.get(&measure).copied()).collect()
}
